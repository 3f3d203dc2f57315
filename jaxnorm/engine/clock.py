"""Counting steps: which row of per-step statistics serves which example at which step."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array, Int


def ages(
    start: Array | None, steps: int, where: Array | None, reset: Array | None, batch_shape: tuple[int, ...]
) -> tuple[Int[Array, "T *B"], Int[Array, "*B"]]:
    """The number of steps behind each example before every step, and after the last one.

    Only real steps (``where``) count, and a reset starts again from zero. ``where`` and ``reset`` are time-major and
    in processing order.
    """
    shape = (steps, *batch_shape)
    real = jnp.ones(shape, jnp.int32) if where is None else where.astype(jnp.int32)
    begun = jnp.zeros(batch_shape, jnp.int32) if start is None else start
    total = jnp.concatenate([begun[None], begun[None] + jnp.cumsum(real, axis=0, dtype=jnp.int32)])
    if reset is not None:
        # What had been counted when the last reset came; the totals never fall, so a running maximum finds it.
        at_reset = lax.cummax(jnp.where(reset, total[:-1], jnp.zeros((), jnp.int32)), axis=0)
        total = total - jnp.concatenate([at_reset, at_reset[-1:] if steps else jnp.zeros_like(total)])
    return total[:-1], total[-1]
