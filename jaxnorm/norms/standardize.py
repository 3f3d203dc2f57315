"""The shared core of all normalizers that need no running statistics: centre, and divide by the root mean square."""

import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array, AxisName
from jaxnorm.norms.moments import anchor, count_over, masked, statistics_dtype, sum_over

# Data are scaled by this power of two (exactly) before they are squared, so that float32 overflows near 1e28 and not
# near 1e19. What underflows then is smaller than 1e-9, nothing beside any epsilon that is at least _SMALLEST_SCALED.
_SCALE = 2.0**-32
_SMALLEST_SCALED = 1e-14


def standardize(
    x: Array,
    axes: tuple[int, ...],
    *,
    where: Array | None,
    axis_name: AxisName | None,
    epsilon: float,
    centre: bool,
    leading: int | None = None,
) -> Array:
    """``(x - mean) / sqrt(var + epsilon)`` over ``axes``, or ``x / sqrt(mean(x^2) + epsilon)`` without ``centre``.

    ``where`` has as many axes as ``x``; elements outside it are neither read nor written: the result is zero there.
    ``leading`` takes the statistic from that many first coordinates of the (single) axis. The result is in at least
    float32. The variance is two-pass. Where all elements are masked, or equal, the result is zero and so is the
    gradient of the masked ones.
    """
    dtype = statistics_dtype(x.dtype)
    scale = jnp.asarray(_SCALE if epsilon >= _SMALLEST_SCALED else 1.0, dtype)
    data = masked(x.astype(dtype), where)
    count = jnp.maximum(count_over(*_first(leading, axes, data, where), axes, axis_name), jnp.ones((), dtype))
    if centre:
        data = data - anchor(data, axes, where, axis_name)
        data = masked(data - sum_over(data, axes, axis_name) / count, where)
    data = data * scale
    source, _ = _first(leading, axes, data, where)
    mean_square = sum_over(jnp.square(source), axes, axis_name) / count
    if epsilon == 0.0:
        # Without epsilon a constant row has no direction: zero, with a zero gradient, instead of NaN.
        constant = mean_square == 0
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, jnp.ones((), dtype), mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(epsilon, dtype) * jnp.square(scale))
    return data * inverse


def _first(leading: int | None, axes: tuple[int, ...], data: Array, where: Array | None) -> tuple[Array, Array | None]:
    """The first ``leading`` coordinates of the data and of the mask, or all of them."""
    if leading is None:
        return data, where
    axis = axes[0]
    if where is not None and where.shape[axis] != 1:
        where = lax.slice_in_dim(where, 0, leading, axis=axis)
    return lax.slice_in_dim(data, 0, leading, axis=axis), where
