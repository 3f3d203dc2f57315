r"""The two element-wise parts of an LSTM step, with hand-written derivatives.

With :math:`i, f, o` the logistic function of their pre-activations and :math:`g` the hyperbolic tangent of its own,

.. math:: c' = f c + i g, \qquad h = o \tanh(\hat c)

and, since :math:`\sigma' = \sigma (1 - \sigma)` and :math:`\tanh' = 1 - \tanh^2`, with a dot for differentials (the
dotted gates are the differentials of their pre-activations),

.. math::
   \dot c' &= f \dot c + g i (1 - i) \, \dot i + c f (1 - f) \, \dot f + i (1 - g^2) \, \dot g \\
   \dot h &= \tanh(\hat c) \, o (1 - o) \, \dot o + o (1 - \tanh(\hat c)^2) \, \dot{\hat c}

If a constant mask or number m scales the candidate i g, m multiplies the factors of :math:`\dot i` and :math:`\dot g`.

Each differential has a single factor. So the backward pass stores one array for each and multiplies once. Automatic
differentiation, operation by operation, would store and multiply two or three.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base.typing import Array


def cell_state(i: Array, f: Array, g: Array, c: Array, scale: Array | None = None) -> Array:
    """Computes the new c from the pre-activations and the old c; a constant ``scale`` multiplies the candidate i g.

    The result has the dtype of the pre-activations.
    """
    new: Array = _cell_state(i, f, g, c.astype(i.dtype), None if scale is None else scale.astype(i.dtype))
    return new


@jax.custom_jvp
def _cell_state(i: Array, f: Array, g: Array, c: Array, scale: Array | None) -> Array:
    g = jnp.tanh(g) if scale is None else jnp.tanh(g) * scale
    return sigmoid(f) * c + sigmoid(i) * g


@_cell_state.defjvp
def _cell_state_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    i, f, g, c, scale = primals
    d_i, d_f, d_g, d_c, _ = tangents  # scale is a constant, so its tangent is ignored
    i, f, g = sigmoid(i), sigmoid(f), jnp.tanh(g)
    slope = i * (1 - g * g)
    if scale is not None:
        g, slope = g * scale, slope * scale
    # The parentheses give each tangent one factor, which is all that the backward pass stores.
    change = f * d_c + (g * i * (1 - i)) * d_i + (c * f * (1 - f)) * d_f + slope * d_g
    return f * c + i * g, change


@jax.custom_jvp
def output(o: Array, c_hat: Array) -> Array:
    """Computes the output h from the pre-activation of the output gate and the normalized c."""
    return sigmoid(o) * jnp.tanh(c_hat)


@output.defjvp
def _output_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    o, tanh_c = sigmoid(primals[0]), jnp.tanh(primals[1])
    d_o, d_c_hat = tangents
    return o * tanh_c, (tanh_c * o * (1 - o)) * d_o + (o * (1 - tanh_c * tanh_c)) * d_c_hat
