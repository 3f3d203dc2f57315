"""Sums over all steps of a sequence up to each step, which restart where a sequence begins."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, Bool, Int


def first_steps(reset: Bool[Array, "T ..."]) -> Int[Array, "T ..."]:
    """The index of the step at which the sequence of each step began: the last reset, or step 0."""
    step = _steps(reset.shape)
    return lax.cummax(jnp.where(reset, step, jnp.zeros_like(step)), axis=0)


def next_step(chosen: Bool[Array, "T ..."]) -> Int[Array, "T ..."]:
    """The index of the next chosen step from each step on; the last step where there is none."""
    step = _steps(chosen.shape)
    return lax.cummin(jnp.where(chosen, step, jnp.full_like(step, chosen.shape[0] - 1)), axis=0, reverse=True)


def prefix_sums(data: Array, start: Int[Array, "T ..."] | None) -> Array:
    """Sums over the steps from ``start`` to each step; None means from step 0."""
    return jnp.cumsum(data, axis=0) if start is None else _sums_since(data, start)


@jax.checkpoint
def _sums_since(data: Array, start: Array) -> Array:
    """Sums each step's own range. The compiler selects and adds in one loop, so that nothing of size T^2 is stored.

    Differences of sums over everything would be cheaper, but a sequence would see the rounding errors of those before.
    """
    first, last = start[:, None], _steps((data.shape[0], 1, *(1,) * (data.ndim - 1)))
    step = _steps((data.shape[0], *(1,) * (data.ndim - 1)))[None]
    return jnp.sum(jnp.where((first <= step) & (step <= last), data[None], jnp.zeros((), data.dtype)), axis=1)


def previous(data: Array, start: Int[Array, "T ..."] | None) -> Array:
    """The entry of the step before each step, zero where a sequence begins."""
    before = jnp.concatenate([jnp.zeros_like(data[:1]), data[:-1]])
    return before if start is None else jnp.where(_steps(start.shape) == start, jnp.zeros((), data.dtype), before)


def _steps(shape: tuple[int, ...]) -> Array:
    """The index of the step at each place of an array of this shape."""
    return lax.broadcasted_iota(jnp.int32, shape, 0)
