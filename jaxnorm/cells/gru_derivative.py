r"""The element-wise part of a GRU step, with a derivative written by hand.

With :math:`r, z` the logistic function of their pre-activations,

.. math:: n = \tanh(n_x + r \, n_h), \qquad h' = (1 - z) \, n + z \, h

and, with a dot over differentials (those of the gates are those of the pre-activations),

.. math::
   \dot h' = z \, \dot h + (h - n) z (1 - z) \, \dot z + p \, \dot n_x + p r \, \dot n_h + p \, n_h r (1 - r) \, \dot r,
   \qquad p = (1 - z)(1 - n^2)

Where z says how much is renewed instead of kept, it and 1 - z change places; the pre-activation of z then counts
negatively. Where the reset gate acts before the product, the candidate has one part n alone,

.. math:: h' = (1 - z) \tanh(n) + z \, h, \qquad
   \dot h' = z \, \dot h + (h - \tanh(n)) z (1 - z) \, \dot z + (1 - z)(1 - \tanh^2(n)) \, \dot n

Where a mask or number m scales the candidate, it is m times as large, and so is what its own differentials are
multiplied by; m is a constant.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._typing import Array


@jax.custom_jvp
def new_state(r: Array, z: Array, n_x: Array, n_h: Array, h: Array, scale: Array | None = None) -> Array:
    """The new h from pre-activations, the two parts of the candidate, and the old h; z keeps the old one.

    ``scale``, a constant, multiplies the candidate n.
    """
    n = jnp.tanh(n_x + sigmoid(r) * n_h)
    n = n if scale is None else n * scale
    return n + sigmoid(z) * (h - n)


@new_state.defjvp
def _new_state_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    r, z, n_x, n_h, h, scale = primals
    d_r, d_z, d_n_x, d_n_h, d_h, _ = tangents
    r, z = sigmoid(r), sigmoid(z)
    n = jnp.tanh(n_x + r * n_h)
    p = (1 - z) * (1 - n * n)
    if scale is not None:
        n, p = n * scale, p * scale
    change = z * d_h + ((h - n) * z * (1 - z)) * d_z + p * d_n_x + (p * r) * d_n_h + (p * n_h * r * (1 - r)) * d_r
    return n + z * (h - n), change


@jax.custom_jvp
def mixed_state(z: Array, n: Array, h: Array, scale: Array | None = None) -> Array:
    """The new h from the pre-activations of gate and candidate, and the old h; z keeps the old one.

    ``scale``, a constant, multiplies the candidate.
    """
    candidate = jnp.tanh(n) if scale is None else jnp.tanh(n) * scale
    return candidate + sigmoid(z) * (h - candidate)


@mixed_state.defjvp
def _mixed_state_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    z, n, h, scale = primals
    d_z, d_n, d_h, _ = tangents
    z, n = sigmoid(z), jnp.tanh(n)
    slope = (1 - z) * (1 - n * n)
    if scale is not None:
        n, slope = n * scale, slope * scale
    change = z * d_h + ((h - n) * z * (1 - z)) * d_z + slope * d_n
    return n + z * (h - n), change
