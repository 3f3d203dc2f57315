"""The shared core of all normalizers that need no running statistics: centre, and divide by the root mean square."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array, AxisName
from jaxnorm.norms.blocks import LARGE, by_blocks
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


class _Statistics(NamedTuple):
    """What a row is standardized with: ``y = (x - mean - rest) * factor``."""

    mean: Array | None
    """None if nothing is centred."""
    rest: Array | None
    """What rounding took from the mean; None if that is not known."""
    factor: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(how: _How, x: Array, where: Array | None) -> Array:
    return _apply(x, where, _measure(how, x, where))


def _apply(x: Array, where: Array | None, by: _Statistics) -> Array:
    """The standardized data, zero where the mask is False."""
    return _deviation(masked(x.astype(by.factor.dtype), where), where, by.mean, by.rest) * by.factor


def _deviation(data: Array, where: Array | None, mean: Array | None, rest: Array | None) -> Array:
    """How far data lie from their mean; the first difference is exact where they lie close to it."""
    if mean is None:
        return data
    return masked(data - mean if rest is None else data - mean - rest, where)


def _count(how: _How, x: Array, where: Array | None) -> Array:
    """The number of elements behind each mean, at least one."""
    dtype = statistics_dtype(x.dtype)
    return jnp.maximum(
        count_over(*_first(how.leading, how.axes, x, where), how.axes, how.axis_name), jnp.ones((), dtype)
    )


def _measure(how: _How, x: Array, where: Array | None) -> _Statistics:
    """The statistics of all rows."""
    if where is not None or how.axis_name is not None or 0 in how.axes:
        return _measure_rows(how, x, where)
    statistics: _Statistics = by_blocks(lambda rows: _measure_rows(how, rows, None), x)
    return statistics


def _measure_rows(how: _How, x: Array, where: Array | None) -> _Statistics:
    """The statistics of these rows."""
    dtype = statistics_dtype(x.dtype)
    scale = jnp.asarray(_SCALE if how.epsilon >= _SMALLEST_SCALED else 1.0, dtype)
    data = masked(x.astype(dtype), where)
    count = _count(how, x, where)
    mean = rest = None
    if how.centre:
        if how.anchored:
            # The sum of origin and offset, and what is lost when it is rounded. Only this mean is taken of
            # differences from the origin: XLA would write them out if anything else shared them.
            origin = anchor(data, how.axes, where, how.axis_name)
            offset = how.mean(data - origin, count)
            mean = origin + offset
            rest = (origin - mean) + offset
        else:
            mean = how.mean(data, count)
        data = _deviation(data, where, mean, rest)
    source, _ = _first(how.leading, how.axes, data * scale, where)
    mean_square = how.mean(jnp.square(source), count)
    if how.epsilon == 0.0:
        # Without epsilon a constant row has no direction: zero, with a zero gradient, instead of NaN.
        constant = mean_square == 0
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, jnp.ones((), dtype), mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(how.epsilon, dtype) * jnp.square(scale))
    return _Statistics(mean, rest, inverse * scale)


@_standardize.defjvp
def _standardize_jvp(how: _How, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    r"""The derivative, with two means where differentiating step by step takes four.

    With y the result and r = 1 / sqrt(var + epsilon),

    .. math:: \dot y = r \dot x - \overline{r \dot x} - y \, \overline{y r \dot x}

    where the first mean is absent without ``centre``, and the second runs over the leading coordinates if only they
    are measured. It follows from dr = -r^3 mean((x - mean) dx) and mean(y) = 0.
    """
    x, where = primals
    statistics, count = _measure(how, x, where), _count(how, x, where)

    # A backward pass keeps x and the statistics, and computes y again. Where y is large, a compiler that finds it
    # computed before is kept from storing it.
    @partial(jax.checkpoint, prevent_cse=x.size >= LARGE)
    def change(x: Array, statistics: _Statistics, t: Array) -> Array:
        y = _apply(x, where, statistics)
        t = masked(t.astype(y.dtype), where) * statistics.factor
        along, _ = _first(how.leading, how.axes, y * t, None)
        change = t - y * how.mean(along, count)
        if how.centre:
            change = masked(change - how.mean(t, count), where)
        return change

    return _apply(x, where, statistics), change(x, statistics, tangents[0])


def _first(leading: int | None, axes: tuple[int, ...], data: Array, where: Array | None) -> tuple[Array, Array | None]:
    """The first ``leading`` coordinates of the data and of the mask, or all of them."""
    if leading is None:
        return data, where
    axis = axes[0]
    if where is not None and where.shape[axis] != 1:
        where = lax.slice_in_dim(where, 0, leading, axis=axis)
    return lax.slice_in_dim(data, 0, leading, axis=axis), where
