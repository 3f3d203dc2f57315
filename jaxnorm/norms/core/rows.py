"""Statistics with a leading axis: pooled into those of everything behind them, or laid into rows in their order."""

import jax.numpy as jnp

from jaxnorm._sizes import known
from jaxnorm.norms.core.moments import Moments, ratio, spread


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
    if not known(measured.mean.shape[0]):
        measured = _longer(measured, rows - 1)  # enough for every row, however few steps there are
    steps = measured.mean.shape[0]
    if steps == rows:
        return measured
    if steps < rows:
        return _longer(measured, rows - steps)
    last = pool(Moments(*(leaf[rows - 1 :] for leaf in measured)))
    if rows == 1:
        return Moments(*(leaf[None] for leaf in last))
    return Moments(*(jnp.concatenate([leaf[: rows - 1], end[None]]) for leaf, end in zip(measured, last, strict=True)))


def _longer(measured: Moments, more: int) -> Moments:
    """With as many entries after the others behind which nothing is."""
    return Moments(*(jnp.concatenate([leaf, jnp.zeros((more, *leaf.shape[1:]), leaf.dtype)]) for leaf in measured))
