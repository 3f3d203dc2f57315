"""The core of layer, RMS, group, instance and batch normalization: center, and divide by the root mean square."""

from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._sizes import at_least
from jaxnorm._typing import Array
from jaxnorm.norms.core.moments import Moments, as_moments, average, masked, rounded_average, statistics_dtype, variance
from jaxnorm.norms.core.reduction import Extent

# Data are scaled by this power of two (exactly) before they are squared, so that float32 overflows near 1e28 and not
# near 1e19. What underflows then is smaller than 1e-9, nothing beside any epsilon that is at least _SMALLEST_SCALED.
_SCALE = 2.0**-32
_SMALLEST_SCALED = 1e-14

# From so many elements on, which no cache of a core holds, a compiler that finds a derivative's factors computed before
# is kept from storing them.
LARGE = 2**20

# Below it a deviation that is stored stays in the caches, and no program is told one platform from another.
STORED = 2**16


def standardize(
    x: Array,
    over: Extent,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    where: Array | None,
    epsilon: float,
    center: bool,
) -> Array:
    """``(x - mean) / sqrt(var + epsilon)`` over an extent, or ``x / sqrt(mean(x^2) + epsilon)`` without ``center``.

    That is multiplied by ``scale`` and added to ``bias``, which have as many axes as ``x`` (see ``aligned_affine``), as
    has ``where``; elements outside it are neither read nor written: the result, in at least float32, is zero there.
    The variance is two-pass. Where all elements are equal the result is ``bias``.
    """
    y, _ = _standardize(_How(over, epsilon, center), x, where, scale, bias)
    return y


def standardize_batch(
    x: Array, over: Extent, scale: Array | None, bias: Array | None, *, where: Array | None, epsilon: float
) -> tuple[Array, Moments]:
    """The same with ``center``, and what was measured, to which gradients flow too."""
    y, measured = _standardize(_How(over, epsilon, center=True, measured=True), x, where, scale, bias)
    mean, var, count = (over.lay(statistic) for statistic in measured)
    return y, as_moments(mean, var, count, over.axes)


def inverse_deviation(x: Array, over: Extent, *, where: Array | None, epsilon: float) -> Array:
    """``1 / sqrt(var + epsilon)`` over an extent, also where the variance is no number of the dtype."""
    return over.lay(_measure(_How(over, epsilon, center=True), x, where, apart=True).factor)


class _How(NamedTuple):
    """What is static about a standardization; see :func:`standardize`."""

    over: Extent
    epsilon: float
    center: bool
    measured: bool = False
    """Whether the caller wants mean, variance and count."""


class _Statistics(NamedTuple):
    """What data are standardized with: ``(x - mean - rest) * factor``."""

    number: Array
    """How many elements are behind each mean; it may be zero."""
    mean: Array | None
    """None if nothing is centered."""
    rest: Array | None
    """What rounding took from the mean; None if nothing is centered."""
    var: Array | None
    """None if nobody wants it."""
    factor: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(
    how: _How, x: Array, where: Array | None, scale: Array | None, bias: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    """The result, and mean, variance and count where they are wanted."""
    return _results(how, x, where, scale, bias, _measure(how, x, where, apart=how.measured))


def _results(
    how: _How, x: Array, where: Array | None, scale: Array | None, bias: Array | None, by: _Statistics
) -> tuple[Array, tuple[Array, ...]]:
    """The same, by statistics that have been measured."""
    y = _apply(how, x, where, by)
    y = y if scale is None else y * scale
    y = y if bias is None else masked(y + bias, where)
    if not how.measured:
        return y, ()
    assert by.mean is not None
    assert by.rest is not None
    assert by.var is not None
    return y, (by.mean + by.rest, by.var, by.number)


def _apply(how: _How, x: Array, where: Array | None, by: _Statistics) -> Array:
    """The standardized data, zero where the mask is False."""
    return _deviation(how, x, where, by.mean, by.rest) * how.over.lay(by.factor)


def _deviation(how: _How, x: Array, where: Array | None, mean: Array | None, rest: Array | None) -> Array:
    """How far data lie from their mean; the first difference is exact where they lie close to it."""
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    if mean is None:
        return data
    data = data - how.over.lay(mean)
    return masked(data if rest is None else data - how.over.lay(rest), where)


def _measure(how: _How, x: Array, where: Array | None, *, apart: bool) -> _Statistics:
    """The statistics, in two passes: the mean; then what rounding took from it, and the mean of squares.

    XLA's CPU compiler makes one kernel of all this where a row is the whole extent and nothing else is asked for. Where
    it cannot, it would store the deviation, as large as the data, for both sums: ``apart``, each has its own.
    """
    over, dtype = how.over, statistics_dtype(x.dtype)
    number = over.number(x, where)
    power = jnp.asarray(_SCALE if how.epsilon >= _SMALLEST_SCALED else 1.0, dtype)
    mean = rest = None
    least = jnp.zeros((), dtype)
    if how.center:
        (total,) = over.sums(masked(x.astype(dtype), where))
        mean = rounded_average(total, number)
    deviation = _deviation(how, x, where, mean, None)
    again = deviation
    if mean is not None and apart and at_least(x.size, STORED):
        again = _deviation(how, x, where, _anew(mean), None)
    square = jnp.square(again * power)
    if how.center:
        total, square = over.sums(deviation, square)
        rest = rounded_average(total, number)
        # What is left of the squares is rounding.
        least = 4 * jnp.finfo(dtype).eps * average(square, number)  # type: ignore[no-untyped-call]
        mean_square = variance(total * power, square, number)
    else:
        mean_square = over.mean(square, number)
    if how.epsilon == 0.0:
        # Without epsilon a constant row has no direction: zero, with a zero gradient, instead of NaN.
        constant = mean_square <= least
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, jnp.ones((), dtype), mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(how.epsilon, dtype) * jnp.square(power))
    var = mean_square / jnp.square(power) if how.measured else None
    return _Statistics(number, mean, rest, var, inverse * power)


@_standardize.defjvp
def _standardize_jvp(how: _How, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    r"""The derivative, with two means where differentiating step by step takes four.

    With :math:`\hat x` for what is standardized, :math:`y = s \hat x + b`, :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}`,

    .. math::
       \dot{\hat x} &= r \dot x - \overline{r \dot x} - \hat x \, \overline{\hat x r \dot x} \\
       \dot y &= s \dot{\hat x} + \hat x \dot s + \dot b \\
       \dot \mu &= \overline{\dot x}, \qquad \dot{(\sigma^2)} = 2 \, \overline{(x - \mu) \dot x}

    where the first mean is absent without ``center``, and the second runs over the leading coordinates if only they
    are measured. It follows from dr = -r^3 mean((x - mean) dx) and from a mean of zero.
    """
    x, where, scale, bias = primals
    by, over = _measure(how, x, where, apart=True), how.over

    # A backward pass keeps x, the statistics and the scale, and standardizes again.
    @partial(jax.checkpoint, prevent_cse=at_least(x.size, LARGE))
    def change(x: Array, by: _Statistics, scale: Array | None, along: Any) -> tuple[Array, tuple[Array, ...]]:
        t_x, t_scale, t_bias = along
        x_hat = _apply(how, x, where, by)
        t_x = masked(t_x.astype(x_hat.dtype), where)
        y = t_x - x_hat * over.lay(over.mean(x_hat * t_x, by.number))
        if how.center:
            y = masked(y - over.lay(over.mean(t_x, by.number)), where)
        y = y * over.lay(by.factor)
        if scale is not None:
            # Standardized once more: what the two gradients shared would be as large as x, and stored.
            y = y * scale + _apply(how, *_unshared(x, where, by)) * t_scale
        if t_bias is not None:
            y = masked(y + t_bias, where)
        if not how.measured:
            return y, ()
        deviation = _deviation(how, x, where, by.mean, by.rest)
        moments = over.mean(t_x, by.number), 2.0 * over.mean(deviation * t_x, by.number), jnp.zeros_like(by.number)
        return y, moments

    t_x, _, t_scale, t_bias = tangents
    seen, _, seen_by = _unshared(x, where, by)
    return _results(how, seen, where, scale, bias, seen_by), change(x, by, scale, (t_x, t_scale, t_bias))


def _unshared(x: Array, where: Array | None, by: _Statistics) -> tuple[Array, Array | None, _Statistics]:
    """The same, but for large data XLA's CPU compiler computes again what was computed of them before."""
    return _anew((x, where, by)) if at_least(x.size, LARGE) else (x, where, by)


Tree = TypeVar("Tree")


def _anew(known: Tree) -> Tree:
    """The same, which XLA's CPU compiler takes for something else."""
    other: Tree = lax.platform_dependent(known, cpu=lax.optimization_barrier, default=lambda same: same)
    return other
