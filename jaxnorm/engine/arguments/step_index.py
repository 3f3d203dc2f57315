"""Counting steps: the age of each example, and where truncated back-propagation cuts."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array, Bool, Int


def ages(
    start: Array | None,
    steps: int,
    where: Array | None,
    reset: Array | None,
    batch_shape: tuple[int, ...],
    *,
    reverse: bool,
) -> tuple[Int[Array, "T *B"], Int[Array, "*B"]]:
    """The number of steps behind each example before every step, and after the last one that is processed.

    Only real steps (``where``) count, and a reset starts again from zero. All have time first; with ``reverse`` the
    last step is processed first.
    """
    if reverse:
        where, reset = (None if a is None else jnp.flip(a, axis=0) for a in (where, reset))
        before, after = ages(start, steps, where, reset, batch_shape, reverse=False)
        return jnp.flip(before, axis=0), after
    shape = (steps, *batch_shape)
    real = jnp.ones(shape, jnp.int32) if where is None else where.astype(jnp.int32)
    begun = jnp.zeros(batch_shape, jnp.int32) if start is None else start
    total = jnp.concatenate([begun[None], begun[None] + jnp.cumsum(real, axis=0, dtype=jnp.int32)])
    if reset is not None:
        # What had been counted when the last reset came; the totals never fall, so a running maximum finds it.
        at_reset = lax.cummax(jnp.where(reset, total[:-1], jnp.zeros((), jnp.int32)), axis=0)
        total = total - jnp.concatenate([at_reset, at_reset[-1:] if steps else jnp.zeros_like(total)])
    return total[:-1], total[-1]


def cuts(
    every: int, steps: int, where: Array | None, reset: Array | None, *, anew: bool, reverse: bool
) -> Bool[Array, "T *B"]:
    """True where no gradient passes to the step before: at every so many steps, in processing order.

    An example that has come no step further than an initial carry is not cut, since that carry may be learned. It has
    one at first if the call begins ``anew``, and after a reset.
    """
    place = jnp.arange(steps, dtype=jnp.int32)
    due = (jnp.flip(place) if reverse else place) % every == 0
    batch_shape = next((mask.shape[1:] for mask in (where, reset) if mask is not None), ())
    start = jnp.full(batch_shape, 0 if anew else 1, jnp.int32)
    before, _ = ages(start, steps, where, reset, batch_shape, reverse=reverse)
    moved: Array = due.reshape(steps, *(1,) * len(batch_shape)) & (before > 0)
    return moved
