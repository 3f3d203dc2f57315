"""Statistics with a leading axis: pool them into one entry, or assign them to rows, one row per step."""

import jax.numpy as jnp

from jaxnorm._base.sizes import known
from jaxnorm.norms.core.moments import Moments, ratio, spread


def pool(measured: Moments) -> Moments:
    """Merges all entries of the leading axis into the statistics of all their data; zeros if nothing was measured."""
    count = jnp.sum(measured.count, axis=0)
    weight = spread(ratio(measured.count, count[None]), measured.mean)
    mean = jnp.sum(weight * measured.mean, axis=0)
    deviation = measured.mean - mean[None]
    # A weighted sum of means far from zero loses digits. We add them back, and take the variance around the new mean.
    shift = jnp.sum(weight * deviation, axis=0)
    var = jnp.sum(weight * (measured.var + jnp.square(deviation)), axis=0) - jnp.square(shift)
    return Moments(mean + shift, var, count)


def lay_in_order(measured: Moments, rows: int) -> Moments:
    """Puts step k into row k and pools all later steps into the last row; rows without a step get count zero."""
    if not known(measured.mean.shape[0]):
        measured = _longer(measured, rows - 1)  # enough for every row, even if there are few steps
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
    """Appends this many empty entries, with count zero."""
    return Moments(*(jnp.concatenate([leaf, jnp.zeros((more, *leaf.shape[1:]), leaf.dtype)]) for leaf in measured))
