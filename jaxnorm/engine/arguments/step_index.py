"""Counts steps: the age of each example, and the cuts of truncated back-propagation."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, Bool, Int


def step_counts(
    start: Array | None,
    steps: int,
    where: Array | None,
    reset: Array | None,
    batch_shape: tuple[int, ...],
    *,
    reverse: bool,
) -> tuple[Int[Array, "T *B"], Int[Array, "*B"]]:
    """Returns the age of each example (its steps so far) before every step, and after the last one processed.

    Only real steps (``where``) count, and a reset restarts the count at zero. All arrays are time-major; with
    ``reverse`` the last step is processed first.
    """
    if reverse:
        where, reset = (None if a is None else jnp.flip(a, axis=0) for a in (where, reset))
        before, after = step_counts(start, steps, where, reset, batch_shape, reverse=False)
        return jnp.flip(before, axis=0), after
    shape = (steps, *batch_shape)
    real = jnp.ones(shape, jnp.int32) if where is None else where.astype(jnp.int32)
    first = jnp.zeros(batch_shape, jnp.int32) if start is None else start
    # No concatenation of start and sums: on an explicit mesh only the masks are spread.
    before, after = (
        first[None] + jnp.cumsum(real, axis=0, dtype=jnp.int32) - real,
        first + jnp.sum(real, axis=0, dtype=jnp.int32),
    )
    if reset is not None and steps:
        # Subtract the count at the last reset. Counts never decrease, so a running maximum finds it.
        at_reset = lax.cummax(jnp.where(reset, before, jnp.zeros((), jnp.int32)), axis=0)
        before, after = before - at_reset, after - at_reset[-1]
    return before, after


def cuts(
    every: int, steps: int, where: Array | None, reset: Array | None, *, anew: bool, reverse: bool
) -> Bool[Array, "T *B"]:
    """Marks the steps where no gradient passes to the previous step: every so many steps, in processing order.

    An example is not cut directly after an initial carry, since that carry may be learned. An example has an initial
    carry at the start if the call begins ``anew``, and after a reset.
    """
    place = jnp.arange(steps, dtype=jnp.int32)
    due = (jnp.flip(place) if reverse else place) % every == 0
    batch_shape = next((mask.shape[1:] for mask in (where, reset) if mask is not None), ())
    start = jnp.full(batch_shape, 0 if anew else 1, jnp.int32)
    before, _ = step_counts(start, steps, where, reset, batch_shape, reverse=reverse)
    moved: Array = due.reshape(steps, *(1,) * len(batch_shape)) & (before > 0)
    return moved
