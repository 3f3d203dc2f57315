"""The core of layer, RMS, group, instance and batch normalization: center, then divide by the root mean square."""

from functools import partial
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.devices import find_target, is_gpu
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.sizes import at_least
from jaxnorm._base.typing import Array
from jaxnorm.norms.core.moment_trees import KeptMoments
from jaxnorm.norms.core.moments import (
    Moments,
    as_moments,
    average,
    masked,
    rounded_average,
    spread,
    statistics_dtype,
    variance,
)
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spread_rows import is_spread, measure_spread

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


class Standardization(NamedTuple):
    """The static options of a standardization."""

    reduction: Reduction
    epsilon: float
    center: bool = True
    """Whether to subtract the mean; else the mean square stands in place of the variance."""
    measured: bool = False
    """Whether the caller wants mean, variance and count."""
    kept: bool = False
    """Whether it also wants what :func:`standardize_again` needs."""


def standardize(
    rule: Standardization, x: Array, scale: Array | None = None, bias: Array | None = None, *, where: Array | None
) -> Array:
    """``(x - mean) / sqrt(var + epsilon)`` over a reduction, or ``x / sqrt(mean(x^2) + epsilon)`` without ``center``.

    The result is multiplied by ``scale``, and ``bias`` is added. Both, and ``where``, have as many axes as ``x`` (see
    ``aligned_affine``). Masked elements are ignored, and the result is zero there. Its dtype is at least float32.
    The variance is computed in two passes. If all elements are equal, the result is ``bias``.
    """
    y, _ = _standardize(rule, x, where, scale, bias)
    return y


def standardize_batch(
    rule: Standardization, x: Array, scale: Array | None = None, bias: Array | None = None, *, where: Array | None
) -> tuple[Array, Moments]:
    """Like :func:`standardize`, but also returns the measured Moments; gradients flow to them too."""
    y, measured = _standardize(rule._replace(measured=True), x, where, scale, bias)
    return y, _pack(rule, *measured)


def standardize_and_keep(
    rule: Standardization, x: Array, scale: Array | None = None, bias: Array | None = None, *, where: Array | None
) -> tuple[Array, KeptMoments]:
    """Like :func:`standardize_batch`; the moments are those that :func:`standardize_again` takes."""
    y, (mean, var, count, *exact) = _standardize(rule._replace(measured=True, kept=True), x, where, scale, bias)
    return y, KeptMoments(*_pack(rule, mean, var, count), *exact)


def standardize_again(
    rule: Standardization,
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    where: Array | None,
    kept: KeptMoments,
) -> tuple[Array, Moments]:
    """Like :func:`standardize_batch`, with what an earlier call measured from the same data.

    It differentiates as if it had measured itself, and gives the kept moments no gradient.
    """
    elements = spread(kept.count, kept.mean)
    found = _Statistics(elements, kept.rounded, kept.rest, kept.var, kept.factor)
    y, measured = _standardize_with(rule._replace(measured=True), x, where, scale, bias, found)
    return y, _pack(rule, *measured)


def _pack(rule: Standardization, mean: Array, var: Array, count: Array) -> Moments:
    broadcast = rule.reduction.broadcast
    return as_moments(broadcast(mean), broadcast(var), broadcast(count), rule.reduction.axes)


def inverse_deviation(rule: Standardization, x: Array, *, where: Array | None) -> Array:
    """``1 / sqrt(var + epsilon)`` over a reduction, even if the variance itself overflows the dtype."""
    return rule.reduction.broadcast(_measure(rule, x, where, twice=True).factor)


class _Statistics(NamedTuple):
    """The statistics for ``(x - mean - rest) * factor``."""

    elements: Array
    """The count of elements in each mean; it may be zero."""
    mean: Array | None
    """The mean, rounded; None without centering."""
    rest: Array | None
    """The rounding error of the mean, to be subtracted as well; None without centering."""
    var: Array | None
    """The variance; None if the caller does not want it."""
    factor: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _standardize(
    rule: Standardization, x: Array, where: Array | None, scale: Array | None, bias: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    """Returns the result, and mean, variance and count if the caller wants them."""
    return _results(rule, x, where, scale, bias, _measure(rule, x, where, twice=rule.measured))


def _results(
    rule: Standardization,
    x: Array,
    where: Array | None,
    scale: Array | None,
    bias: Array | None,
    found: _Statistics,
) -> tuple[Array, tuple[Array, ...]]:
    """Computes the results of ``_standardize`` from measured statistics."""
    y = _apply(rule, x, where, found)
    y = y if scale is None else y * scale
    y = y if bias is None else masked(y + bias, where)
    if not rule.measured:
        return y, ()
    mean, rest, var = cast(tuple[Array, Array, Array], (found.mean, found.rest, found.var))
    moments = (mean + rest, var, found.elements)
    return y, (*moments, mean, rest, found.factor) if rule.kept else moments


def _apply(rule: Standardization, x: Array, where: Array | None, statistics: _Statistics) -> Array:
    """Standardizes the data; the result is zero where the mask is False."""
    return _deviation(rule, x, where, statistics.mean, statistics.rest) * rule.reduction.broadcast(statistics.factor)


def _deviation(rule: Standardization, x: Array, where: Array | None, mean: Array | None, rest: Array | None) -> Array:
    """Subtracts the mean, then its rounding error; the first difference is exact for data close to the mean."""
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    if mean is None:
        return data
    data = data - rule.reduction.broadcast(mean)
    return masked(data if rest is None else data - rule.reduction.broadcast(rest), where)


def _measure(rule: Standardization, x: Array, where: Array | None, *, twice: bool) -> _Statistics:
    """Measures in two passes: first the mean, then its rounding error and the mean square of the deviation.

    If a reduction is a whole row and the caller wants nothing else, XLA's CPU compiler fuses all this into one kernel.
    Otherwise it would store the deviation, an array as large as the data, because two sums use it. With ``twice`` we
    make it compute the deviation once for each sum instead.
    """
    reduction, dtype = rule.reduction, statistics_dtype(x.dtype)
    power = jnp.asarray(_SCALE if rule.epsilon >= _SMALLEST_SCALED else 1.0, dtype)
    mean = rest = None
    least = jnp.zeros((), dtype)
    if rule.center:
        count, total = reduction.count_and_sum(where, masked(x.astype(dtype), where))
        mean = rounded_average(total, count)
    deviation = _deviation(rule, x, where, mean, None)
    # The same deviation, computed from a mean that XLA takes for another one, so that nothing is stored.
    again = deviation
    if mean is not None and twice and at_least(x.size, STORED):
        again = _deviation(rule, x, where, _behind_barrier(mean), None)
    square = jnp.square(again * power)
    if rule.center and is_spread(reduction, x, where):
        mean, rest, mean_square, about = measure_spread(reduction, masked(x.astype(dtype), where), power)
        least = 4 * jnp.finfo(dtype).eps * about  # type: ignore[no-untyped-call]
    elif rule.center and not twice and is_gpu(find_target(x).platform) and reduction.is_row(x.ndim):
        # XLA's GPU compiler makes one kernel of a row if each sum needs the one before it.
        (total,) = reduction.sums(deviation)
        rest = rounded_average(total, count)
        (square,) = reduction.sums(jnp.square(_deviation(rule, x, where, mean, rest) * power))
        mean_square = average(square, count)
        least = 4 * jnp.finfo(dtype).eps * (mean_square + jnp.square(rest * power))  # type: ignore[no-untyped-call]
    elif rule.center:
        total, square = reduction.sums(deviation, square)
        rest = rounded_average(total, count)
        # A mean square below this bound is nothing but rounding error.
        least = 4 * jnp.finfo(dtype).eps * average(square, count)  # type: ignore[no-untyped-call]
        mean_square = variance(total * power, square, count)
    else:
        count, total = reduction.count_and_sum(where, square)
        mean_square = average(total, count)
    if rule.epsilon == 0.0:
        # Without epsilon a constant row would be 0/0. Its result is zero, with a zero gradient. The inner select keeps
        # rsqrt away from zero.
        constant = mean_square <= least
        inverse = jnp.where(constant, 0.0, lax.rsqrt(jnp.where(constant, jnp.ones((), dtype), mean_square)))
    else:
        inverse = lax.rsqrt(mean_square + jnp.asarray(rule.epsilon, dtype) * jnp.square(power))
    var = mean_square / jnp.square(power) if rule.measured else None
    return _Statistics(count, mean, rest, var, inverse * power)


@_standardize.defjvp
def _standardize_jvp(rule: Standardization, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    return _differentiate(rule, primals, tangents, _measure(rule, primals[0], primals[1], twice=True))


# The same with statistics of the same data that were measured before.
_standardize_with = jax.custom_jvp(_results, nondiff_argnums=(0,))


@_standardize_with.defjvp
def _standardize_with_jvp(rule: Standardization, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    # How the statistics follow from x is in the rule; their own tangents would count it twice.
    return _differentiate(rule, primals[:-1], tangents[:-1], primals[-1])


def _differentiate(rule: Standardization, primals: Any, tangents: Any, statistics: _Statistics) -> tuple[Any, Any]:
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
    reduction = rule.reduction

    # The checkpoint makes the backward pass keep only x, the statistics and the scale, and standardize again. Small
    # data do not need prevent_cse: a result that XLA shares with the forward pass stays in the cache.
    @partial(jax.checkpoint, prevent_cse=at_least(x.size, LARGE))
    def change(x: Array, statistics: _Statistics, scale: Array | None, along: Any) -> tuple[Array, tuple[Array, ...]]:
        t_x, t_scale, t_bias = along
        x_hat = _apply(rule, x, where, statistics)
        t_x = masked(t_x.astype(x_hat.dtype), where)
        summands = [x_hat * t_x]
        if rule.center:
            summands.append(t_x)
        if rule.measured:
            summands.append(_deviation(rule, x, where, statistics.mean, statistics.rest) * t_x)
        along, *others = reduction.means(statistics.elements, *summands)
        y = t_x - x_hat * reduction.broadcast(along)
        if rule.center:
            y = masked(y - reduction.broadcast(others[0]), where)
        y = y * reduction.broadcast(statistics.factor)
        if scale is not None:
            # Standardize a second time. If the gradients of x and of the scale shared the result, XLA would store an
            # array as large as x.
            y = y * scale + _apply(rule, *_unshared(x, where, statistics)) * t_scale
        if t_bias is not None:
            y = masked(y + t_bias, where)
        if not rule.measured:
            return y, ()
        t_mean, t_half = others
        t_moments = (t_mean, 2.0 * t_half, jnp.zeros_like(statistics.elements))
        if not rule.kept:
            return y, t_moments
        t_factor = -(statistics.factor**3) * t_half
        return y, (*t_moments, t_mean, jnp.zeros_like(t_mean), t_factor)

    t_x, _, t_scale, t_bias = tangents
    # The result gets copies behind a barrier too, so that XLA does not store x_hat to share it with the derivative.
    seen, _, found = _unshared(x, where, statistics)
    return _results(rule, seen, where, scale, bias, found), change(x, statistics, scale, (t_x, t_scale, t_bias))


def _unshared(x: Array, where: Array | None, statistics: _Statistics) -> tuple[Array, Array | None, _Statistics]:
    """Returns the arguments; if they are large, XLA's CPU compiler does not share results computed from them before."""
    return _behind_barrier((x, where, statistics)) if at_least(x.size, LARGE) else (x, where, statistics)


Tree = TypeVar("Tree")


def _behind_barrier(known: Tree) -> Tree:
    """Returns its argument behind an optimization barrier on CPU, so that XLA takes it for another array."""
    other: Tree = lax.platform_dependent(known, cpu=lax.optimization_barrier, default=lambda same: same)
    return other
