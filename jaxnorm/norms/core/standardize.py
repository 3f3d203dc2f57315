"""The core of layer, RMS, group, instance and batch normalization: center, then divide by the root mean square."""

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

# We multiply data by this power of two, which is exact, before we square them, so that float32 overflows near 1e28
# instead of near 1e19. Data whose scaled square underflows are smaller than 1e-9. Their square is negligible next to
# any epsilon that is at least _SMALLEST_SCALED.
_SCALE = 2.0**-32
_SMALLEST_SCALED = 1e-14

# Above this size the data exceed any core's cache, so we stop XLA from reusing, and thus storing, intermediates of the
# forward pass.
LARGE = 2**20

# Below this size a stored deviation stays in the cache, so the barrier does not pay, and programs do not need a branch
# for each platform.
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

    The result is multiplied by ``scale``, and ``bias`` is added. Both, and ``where``, have as many axes as ``x`` (see
    ``aligned_affine``). Masked elements are ignored, and the result is zero there. Its dtype is at least float32.
    The variance is computed in two passes. If all elements are equal, the result is ``bias``.
    """
    y, _ = _standardize(_How(over, epsilon, center), x, where, scale, bias)
    return y


def standardize_batch(
    x: Array, over: Extent, scale: Array | None, bias: Array | None, *, where: Array | None, epsilon: float
) -> tuple[Array, Moments]:
    """Like :func:`standardize` with ``center``, but also returns the measured Moments; gradients flow to them too."""
    y, measured = _standardize(_How(over, epsilon, center=True, measured=True), x, where, scale, bias)
    mean, var, count = (over.lay(statistic) for statistic in measured)
    return y, as_moments(mean, var, count, over.axes)


def inverse_deviation(x: Array, over: Extent, *, where: Array | None, epsilon: float) -> Array:
    """``1 / sqrt(var + epsilon)`` over an extent, even if the variance itself overflows the dtype."""
    return over.lay(_measure(_How(over, epsilon, center=True), x, where, apart=True).factor)


class _How(NamedTuple):
    """The static options of a standardization; see :func:`standardize`."""

    over: Extent
    epsilon: float
    center: bool
    measured: bool = False
    """Whether the caller wants mean, variance and count."""


class _Statistics(NamedTuple):
    """The statistics for ``(x - mean - rest) * factor``."""

    number: Array
    """The number of elements in each mean; it may be zero."""
    mean: Array | None
    """The mean, rounded; None without centering."""
    rest: Array | None
    """The rounding error of the mean, to be subtracted as well; None without centering."""
    var: Array | None
    """The variance; None if the caller does not want it."""
    factor: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(
    how: _How, x: Array, where: Array | None, scale: Array | None, bias: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    """Returns the result, and mean, variance and count if the caller wants them."""
    return _results(how, x, where, scale, bias, _measure(how, x, where, apart=how.measured))


def _results(
    how: _How, x: Array, where: Array | None, scale: Array | None, bias: Array | None, by: _Statistics
) -> tuple[Array, tuple[Array, ...]]:
    """Computes the results of ``_standardize`` from measured statistics."""
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
    """Standardizes the data; the result is zero where the mask is False."""
    return _deviation(how, x, where, by.mean, by.rest) * how.over.lay(by.factor)


def _deviation(how: _How, x: Array, where: Array | None, mean: Array | None, rest: Array | None) -> Array:
    """Subtracts the mean, then its rounding error; the first difference is exact for data close to the mean."""
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    if mean is None:
        return data
    data = data - how.over.lay(mean)
    return masked(data if rest is None else data - how.over.lay(rest), where)


def _measure(how: _How, x: Array, where: Array | None, *, apart: bool) -> _Statistics:
    """Measures in two passes: first the mean, then its rounding error and the mean square of the deviation.

    If an extent is a whole row and the caller wants nothing else, XLA's CPU compiler fuses all this into one kernel.
    Otherwise it would store the deviation, an array as large as the data, because two sums use it. With ``apart`` we
    make it compute the deviation once for each sum instead.
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
    # The same deviation, computed from a mean that XLA takes for another one, so that nothing is stored.
    again = deviation
    if mean is not None and apart and at_least(x.size, STORED):
        again = _deviation(how, x, where, _anew(mean), None)
    square = jnp.square(again * power)
    if how.center:
        total, square = over.sums(deviation, square)
        rest = rounded_average(total, number)
        # A mean square below this bound is nothing but rounding error.
        least = 4 * jnp.finfo(dtype).eps * average(square, number)  # type: ignore[no-untyped-call]
        mean_square = variance(total * power, square, number)
    else:
        mean_square = over.mean(square, number)
    if how.epsilon == 0.0:
        # Without epsilon a constant row would be 0/0. Its result is zero, with a zero gradient. The inner select keeps
        # rsqrt away from zero.
        constant = mean_square <= least
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, jnp.ones((), dtype), mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(how.epsilon, dtype) * jnp.square(power))
    var = mean_square / jnp.square(power) if how.measured else None
    return _Statistics(number, mean, rest, var, inverse * power)


@_standardize.defjvp
def _standardize_jvp(how: _How, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    r"""The derivative with two means, where automatic differentiation would take four.

    With :math:`\hat x` for the standardized data, :math:`y = s \hat x + b`, :math:`r = 1 / \sqrt{\sigma^2 + \epsilon}`,

    .. math::
       \dot{\hat x} &= r \dot x - \overline{r \dot x} - \hat x \, \overline{\hat x r \dot x} \\
       \dot y &= s \dot{\hat x} + \hat x \dot s + \dot b \\
       \dot \mu &= \overline{\dot x}, \qquad \dot{(\sigma^2)} = 2 \, \overline{(x - \mu) \dot x}

    Without ``center`` the first mean is absent. If we measure only the leading coordinates, the second mean runs over
    them. The formula follows from dr = -r^3 mean((x - mean) dx), and from :math:`\hat x` having mean zero.
    """
    x, where, scale, bias = primals
    by, over = _measure(how, x, where, apart=True), how.over

    # The checkpoint makes the backward pass keep only x, the statistics and the scale, and standardize again. Small
    # data do not need prevent_cse: a result that XLA shares with the forward pass stays in the cache.
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
            # Standardize a second time. If the gradients of x and of the scale shared the result, XLA would store an
            # array as large as x.
            y = y * scale + _apply(how, *_unshared(x, where, by)) * t_scale
        if t_bias is not None:
            y = masked(y + t_bias, where)
        if not how.measured:
            return y, ()
        deviation = _deviation(how, x, where, by.mean, by.rest)
        moments = over.mean(t_x, by.number), 2.0 * over.mean(deviation * t_x, by.number), jnp.zeros_like(by.number)
        return y, moments

    t_x, _, t_scale, t_bias = tangents
    # The result gets copies behind a barrier too, so that XLA does not store x_hat to share it with the derivative.
    seen, _, seen_by = _unshared(x, where, by)
    return _results(how, seen, where, scale, bias, seen_by), change(x, by, scale, (t_x, t_scale, t_bias))


def _unshared(x: Array, where: Array | None, by: _Statistics) -> tuple[Array, Array | None, _Statistics]:
    """Returns the arguments; if they are large, XLA's CPU compiler does not share results computed from them before."""
    return _anew((x, where, by)) if at_least(x.size, LARGE) else (x, where, by)


Tree = TypeVar("Tree")


def _anew(known: Tree) -> Tree:
    """Returns its argument behind an optimization barrier on CPU, so that XLA takes it for another array."""
    other: Tree = lax.platform_dependent(known, cpu=lax.optimization_barrier, default=lambda same: same)
    return other
