r"""The element-wise part of a GRU step, with a hand-written derivative.

With :math:`r, z` the logistic function of their pre-activations,

.. math:: n = \tanh(n_x + r \, n_h), \qquad h' = (1 - z) \, n + z \, h

and, with a dot for differentials (the dotted gates are the differentials of their pre-activations),

.. math::
   \dot h' = z \, \dot h + (h - n) z (1 - z) \, \dot z + p \, \dot n_x + p r \, \dot n_h + p \, n_h r (1 - r) \, \dot r,
   \qquad p = (1 - z)(1 - n^2)

If z renews the state instead of keeping it, z and 1 - z trade places: negate the pre-activation of z. If the reset gate
acts before the product, the candidate has the single part n,

.. math:: h' = (1 - z) \tanh(n) + z \, h, \qquad
   \dot h' = z \, \dot h + (h - \tanh(n)) z (1 - z) \, \dot z + (1 - z)(1 - \tanh^2(n)) \, \dot n

If a constant mask or number m scales the candidate, m also multiplies the factors of the differentials that pass
through it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base.typing import Array


def new_state(r: Array, z: Array, n_x: Array, n_h: Array, h: Array, scale: Array | None = None) -> Array:
    """Computes the new h from the pre-activations, the two parts of the candidate and the old h, which z keeps.

    A constant ``scale`` multiplies the candidate n. The result has the dtype of the pre-activations.
    """
    new: Array = _new_state(r, z, n_x, n_h, h.astype(r.dtype), None if scale is None else scale.astype(r.dtype))
    return new


@jax.custom_jvp
def _new_state(r: Array, z: Array, n_x: Array, n_h: Array, h: Array, scale: Array | None) -> Array:
    n = jnp.tanh(n_x + sigmoid(r) * n_h)
    n = n if scale is None else n * scale
    return n + sigmoid(z) * (h - n)


@_new_state.defjvp
def _new_state_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    r, z, n_x, n_h, h, scale = primals
    d_r, d_z, d_n_x, d_n_h, d_h, _ = tangents  # scale is a constant, so its tangent is ignored
    r, z = sigmoid(r), sigmoid(z)
    n = jnp.tanh(n_x + r * n_h)
    p = (1 - z) * (1 - n * n)
    if scale is not None:
        n, p = n * scale, p * scale
    # The parentheses give each tangent one factor, which is all that the backward pass stores.
    change = z * d_h + ((h - n) * z * (1 - z)) * d_z + p * d_n_x + (p * r) * d_n_h + (p * n_h * r * (1 - r)) * d_r
    return n + z * (h - n), change


def mixed_state(z: Array, n: Array, h: Array, scale: Array | None = None) -> Array:
    """Computes the new h from the pre-activations of gate and candidate and the old h, which z keeps.

    A constant ``scale`` multiplies the candidate. The result has the dtype of the pre-activations.
    """
    new: Array = _mixed_state(z, n, h.astype(z.dtype), None if scale is None else scale.astype(z.dtype))
    return new


@jax.custom_jvp
def _mixed_state(z: Array, n: Array, h: Array, scale: Array | None) -> Array:
    candidate = jnp.tanh(n) if scale is None else jnp.tanh(n) * scale
    return candidate + sigmoid(z) * (h - candidate)


@_mixed_state.defjvp
def _mixed_state_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    z, n, h, scale = primals
    d_z, d_n, d_h, _ = tangents  # scale is a constant, so its tangent is ignored
    z, n = sigmoid(z), jnp.tanh(n)
    slope = (1 - z) * (1 - n * n)
    if scale is not None:
        n, slope = n * scale, slope * scale
    change = z * d_h + ((h - n) * z * (1 - z)) * d_z + slope * d_n
    return n + z * (h - n), change
