"""The outputs of masked steps: zeros, or the output of the last real step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, Bool, PyTree
from jaxnorm.engine.arguments.lengths import take_steps
from jaxnorm.engine.loops.scan import select


def hold(
    outputs: PyTree,
    where: Bool[Array, "T *B"],
    reset: Bool[Array, "T *B"] | None,
    axis: int,
    *,
    reverse: bool,
) -> Any:
    """Repeats the output of the last real step at masked steps; zeros before the first one of a sequence.

    Args:
      outputs: the outputs, an array or a tree of arrays with the time axis ``axis``.
      where: True at real steps, time first.
      reset: True where a sequence begins; from there on the outputs of the sequence before are not repeated.
      axis: the time axis of ``outputs``.
      reverse: whether the steps run from the last to the first.
    """
    place = jnp.arange(where.shape[0], dtype=jnp.int32).reshape(-1, *(1,) * (where.ndim - 1))
    never = jnp.int32(2**31 - 1 if reverse else -1)

    def latest(marked: Array) -> Array:
        """The last marked step so far; ``never`` before the first."""
        last = lax.cummin if reverse else lax.cummax
        found: Array = last(jnp.where(marked, place, never), axis=0, reverse=reverse)
        return found

    source = latest(where)
    held = source != never
    if reset is not None:
        start = latest(reset)
        held = held & (source <= start if reverse else source >= start)
    order, held = jnp.where(held, source, place), jnp.moveaxis(held, 0, axis)
    taken = jax.tree.map(lambda output: take_steps(output, order, axis), outputs)
    return select(held, taken, jax.tree.map(jnp.zeros_like, taken))
