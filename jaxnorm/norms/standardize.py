"""The shared core of all normalizers that need no running statistics: centre, and divide by the root mean square."""

from functools import partial
from typing import Any, NamedTuple

import jax
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
    anchored: bool = True,
) -> Array:
    """``(x - mean) / sqrt(var + epsilon)`` over ``axes``, or ``x / sqrt(mean(x^2) + epsilon)`` without ``centre``.

    ``where`` has as many axes as ``x``; elements outside it are neither read nor written: the result is zero there.
    ``leading`` takes the statistic from that many first coordinates of the (single) axis. The result is in at least
    float32. The variance is two-pass; ``anchored`` takes an element away before the mean is taken (see ``anchor``).
    Where all elements are masked, or equal, the result is zero and so is the gradient of the masked ones.
    """
    return _standardize(_How(axes, axis_name, epsilon, centre, leading, anchored), x, where)


class _How(NamedTuple):
    """What is static about a standardization; see :func:`standardize`."""

    axes: tuple[int, ...]
    axis_name: AxisName | None
    epsilon: float
    centre: bool
    leading: int | None
    anchored: bool = True

    def mean(self, data: Array, count: Array) -> Array:
        """The sum over all axes, named ones too, divided by a count."""
        return sum_over(data, self.axes, self.axis_name) / count


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(how: _How, x: Array, where: Array | None) -> Array:
    return _measured(how, x, where)[0]


def _measured(how: _How, x: Array, where: Array | None) -> tuple[Array, Array, Array]:
    """The result y, the factor r by which the data were multiplied, and the number of elements behind each mean."""
    dtype = statistics_dtype(x.dtype)
    scale = jnp.asarray(_SCALE if how.epsilon >= _SMALLEST_SCALED else 1.0, dtype)
    data = masked(x.astype(dtype), where)
    one = jnp.ones((), dtype)
    count = jnp.maximum(count_over(*_first(how.leading, how.axes, data, where), how.axes, how.axis_name), one)
    if how.centre:
        if how.anchored:
            data = data - anchor(data, how.axes, where, how.axis_name)
        data = masked(data - how.mean(data, count), where)
    data = data * scale
    source, _ = _first(how.leading, how.axes, data, where)
    mean_square = how.mean(jnp.square(source), count)
    if how.epsilon == 0.0:
        # Without epsilon a constant row has no direction: zero, with a zero gradient, instead of NaN.
        constant = mean_square == 0
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, one, mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(how.epsilon, dtype) * jnp.square(scale))
    return data * inverse, inverse * scale, count


@_standardize.defjvp
def _standardize_jvp(how: _How, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    r"""The derivative, with two means where differentiating step by step takes four.

    With y the result and r = 1 / sqrt(var + epsilon),

    .. math:: \dot y = r (\dot x - \overline{\dot x} - y \, \overline{y \dot x})

    where the first mean is absent without ``centre``, and the second runs over the leading coordinates if only they
    are measured. It follows from dr = -r^3 mean((x - mean) dx) and mean(y) = 0.
    """
    x, where = primals
    y, factor, count = _measured(how, x, where)
    t = masked(tangents[0].astype(y.dtype), where)
    along, _ = _first(how.leading, how.axes, y * t, None)
    change = t - y * how.mean(along, count)
    if how.centre:
        change = masked(change - how.mean(t, count), where)
    return y, factor * change


def _first(leading: int | None, axes: tuple[int, ...], data: Array, where: Array | None) -> tuple[Array, Array | None]:
    """The first ``leading`` coordinates of the data and of the mask, or all of them."""
    if leading is None:
        return data, where
    axis = axes[0]
    if where is not None and where.shape[axis] != 1:
        where = lax.slice_in_dim(where, 0, leading, axis=axis)
    return lax.slice_in_dim(data, 0, leading, axis=axis), where
