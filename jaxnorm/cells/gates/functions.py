r"""The element-wise parts of a step for the cell's functions: with derivatives by hand, or automatic ones.

With the logistic function and tanh, which nearly all cells have, these are the functions of ``lstm_derivative`` and
``gru_derivative``. For any other pair, :math:`\sigma` and :math:`\phi`, they are the equations as they stand there,
with :math:`\phi` for tanh, and JAX differentiates them.
"""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array
from jaxnorm.cells.gates import gru_derivative, lstm_derivative

Function = Callable[[Array], Array]


class LSTMFunctions(NamedTuple):
    """The parts of an LSTM step."""

    cell_state: Callable[..., Array]
    """The new c from i, f, g, the old c and perhaps a constant scale of the candidate."""
    coupled_state: Callable[..., Array]
    """The same with one minus the input gate as forget gate, from i, g, the old c and perhaps a scale."""
    output: Callable[[Array, Array], Array]
    """The output h from o and the normalized c."""


class GRUFunctions(NamedTuple):
    """The parts of a GRU step."""

    new_state: Callable[..., Array]
    """The new h from r, z, the two parts of the candidate, the old h and perhaps a scale of the candidate."""
    mixed_state: Callable[..., Array]
    """The same where the reset gate has acted before, from z, n, the old h and perhaps a scale."""


def _coupled_state(i: Array, g: Array, c: Array, scale: Array | None = None) -> Array:
    return lstm_derivative.cell_state(i, -i, g, c, scale)  # 1 - sigmoid(i) = sigmoid(-i)


def _renewed_state(r: Array, z: Array, n_x: Array, n_h: Array, h: Array, scale: Array | None = None) -> Array:
    return gru_derivative.new_state(r, -z, n_x, n_h, h, scale)


def _renewed_mixed_state(z: Array, n: Array, h: Array, scale: Array | None = None) -> Array:
    return gru_derivative.mixed_state(-z, n, h, scale)


USUAL_LSTM = LSTMFunctions(lstm_derivative.cell_state, _coupled_state, lstm_derivative.output)
USUAL_GRU = {
    "keep": GRUFunctions(gru_derivative.new_state, gru_derivative.mixed_state),
    "renew": GRUFunctions(_renewed_state, _renewed_mixed_state),
}


def lstm_functions(gate_fn: Function, activation_fn: Function) -> LSTMFunctions:
    """Returns the parts of an LSTM step with the given functions."""
    if gate_fn is sigmoid and activation_fn is jnp.tanh:
        return USUAL_LSTM

    def candidate(g: Array, scale: Array | None) -> Array:
        return _scaled(activation_fn(g), scale)

    def cell_state(i: Array, f: Array, g: Array, c: Array, scale: Array | None = None) -> Array:
        return gate_fn(f) * c.astype(f.dtype) + gate_fn(i) * candidate(g, scale)

    def coupled_state(i: Array, g: Array, c: Array, scale: Array | None = None) -> Array:
        c, i = c.astype(i.dtype), gate_fn(i)
        return (1 - i) * c + i * candidate(g, scale)

    def output(o: Array, c_hat: Array) -> Array:
        return gate_fn(o) * activation_fn(c_hat)

    return LSTMFunctions(cell_state, coupled_state, output)


def gru_functions(
    gate_fn: Function, activation_fn: Function, update_gate: Literal["keep", "renew"] = "keep"
) -> GRUFunctions:
    """Returns the parts of a GRU step with the given functions; ``update_gate`` says what z does to the old h."""
    if gate_fn is sigmoid and activation_fn is jnp.tanh:
        return USUAL_GRU[update_gate]

    def mix(z: Array, n: Array, h: Array, scale: Array | None) -> Array:
        z, h, n = gate_fn(z), h.astype(z.dtype), _scaled(n, scale)
        return n + z * (h - n) if update_gate == "keep" else h + z * (n - h)

    def new_state(r: Array, z: Array, n_x: Array, n_h: Array, h: Array, scale: Array | None = None) -> Array:
        return mix(z, activation_fn(n_x + gate_fn(r) * n_h), h, scale)

    def mixed_state(z: Array, n: Array, h: Array, scale: Array | None = None) -> Array:
        return mix(z, activation_fn(n), h, scale)

    return GRUFunctions(new_state, mixed_state)


def _scaled(candidate: Array, scale: Array | None) -> Array:
    return candidate if scale is None else candidate * scale.astype(candidate.dtype)
