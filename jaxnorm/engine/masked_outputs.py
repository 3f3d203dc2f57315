"""What masked steps put out: zeros, or the output of the last real step."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, Bool, Float
from jaxnorm.engine.arguments.lengths import take_steps


def hold(
    outputs: Float[Array, "..."],
    where: Bool[Array, "T *B"],
    reset: Bool[Array, "T *B"] | None,
    axis: int,
    *,
    reverse: bool,
) -> Float[Array, "..."]:
    """Repeats the output of the last real step at masked steps; zeros before the first one of a sequence.

    Args:
      outputs: the outputs, with the time axis ``axis``.
      where: True at real steps, time first.
      reset: True where a sequence begins; what it holds from then on is its own.
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
    taken = take_steps(outputs, jnp.where(held, source, place), axis)
    held = jnp.moveaxis(held, 0, axis)
    return jnp.where(held.reshape(held.shape + (1,) * (taken.ndim - held.ndim)), taken, jnp.zeros_like(taken))
