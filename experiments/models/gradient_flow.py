"""How much of a gradient arrives at each step of a sequence: the size of d loss / d h_t, t steps from the beginning."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxnorm as jn


def hidden_gradient_norms(
    cell: jn.Cell, params: Any, xs: jax.Array, loss: Callable[[jax.Array], jax.Array], *, key: jax.Array
) -> jax.Array:
    """Measures the gradient of a loss of the last hidden state with respect to each hidden state before it.

    Args:
      cell: a cell whose carry has a field ``h``.
      params: its weights.
      xs: inputs (T, B, I).
      loss: a function of the last output (B, H).
      key: for noise on the initial state.

    Returns:
      Norms over examples and features, (T,): entry t is that of the state which step t reads.
    """
    start = cell.initial_carry((xs.shape[1],), params=params, key=key)

    def moved(start_to_end: jax.Array) -> jax.Array:
        def step(carry: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            x, move = inputs
            out = jn.unroll(cell, params, x[None], carry=optax.tree.set(carry, h=optax.tree.get(carry, "h") + move))
            return out.carry, out.outputs[0]

        return loss(jax.lax.scan(step, start, (xs, start_to_end))[1][-1])

    gradients = jax.grad(moved)(jnp.zeros((*xs.shape[:2], cell.hidden_features)))
    return jnp.sqrt(jnp.square(gradients).sum((1, 2)))
