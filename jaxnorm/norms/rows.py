"""Statistics with a leading axis: pooled into those of everything behind them, or laid into rows in their order."""

import jax.numpy as jnp

from jaxnorm._typing import Array
from jaxnorm.norms.moments import Moments, ratio, spread


def pool(measured: Moments) -> Moments:
    """Statistics of everything behind the entries of the leading axis, together; zeros where nothing was measured."""
    count = jnp.sum(measured.count, axis=0)
    weight = spread(ratio(measured.count, count[None]), measured.mean)
    mean = jnp.sum(weight * measured.mean, axis=0)
    deviation = measured.mean - mean[None]
    # The digits that the sum of means far from zero has lost; the spread is that around the corrected mean.
    shift = jnp.sum(weight * deviation, axis=0)
    var = jnp.sum(weight * (measured.var + jnp.square(deviation)), axis=0) - jnp.square(shift)
    return Moments(mean + shift, var, count)


def lay_in_order(measured: Moments, rows: int) -> Moments:
    """Step k into row k, all steps from the last row on pooled into that one; rows without a step get count zero."""
    steps = len(measured.mean)
    if steps == rows:
        return measured
    if steps < rows:

        def pad(leaf: Array) -> Array:
            return jnp.concatenate([leaf, jnp.zeros((rows - steps, *leaf.shape[1:]), leaf.dtype)])

        return Moments(*map(pad, measured))
    last = pool(Moments(*(leaf[rows - 1 :] for leaf in measured)))
    if rows == 1:
        return Moments(*(leaf[None] for leaf in last))
    return Moments(*(jnp.concatenate([leaf[: rows - 1], end[None]]) for leaf, end in zip(measured, last, strict=True)))
