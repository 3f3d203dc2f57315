r"""Batch statistics: measure, merge, and normalize with them. Running statistics live in ``running``.

Measuring, normalizing and updating are three separate functions. Frozen, ghost, adaptive and cross-device
normalization are compositions of them rather than flags.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import objects, validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, DType, DTypeLike, Float, Real
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.named_axes import NamedAxes, across, named_axes


class Moments(NamedTuple):
    """Mean, biased variance, and the number of elements they were computed from.

    ``count`` has the shape of ``mean`` or of a leading part of it (a scalar when every feature saw the same elements;
    ``(T,)`` for statistics of T steps). A count of zero means that nothing was measured: mean and variance are zero
    there, and every function below ignores such entries.
    """

    mean: Float[Array, "..."]
    var: Float[Array, "..."]
    count: Float[Array, "..."]  # type: ignore[assignment]  # shadows tuple.count, which nobody calls here


def initial_moments(
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    count_shape: tuple[int, ...] = (),
    *,
    mean: float = 0.0,
    var: float = 1.0,
) -> Moments:
    """Running statistics before any data, with count 0."""
    return Moments(jnp.full(shape, mean, dtype), jnp.full(shape, var, dtype), jnp.zeros(count_shape, dtype))


def statistics_dtype(dtype: Any) -> DType:
    """The dtype in which we compute statistics of data with this dtype: at least float32."""
    # We avoid jnp.promote_types, because it rejects bfloat16 under strict promotion.
    given: DType = jnp.dtype(dtype)
    return given if given.itemsize > 4 else jnp.dtype(jnp.float32)


def sum_over(x: Array, axes: tuple[int, ...], axis_name: NamedAxes | None) -> Array:
    """Sums over array axes (kept with size 1) and, if given, over named axes."""
    return across(jnp.sum(x, axis=axes, keepdims=True), axis_name)


def average(sums: Array, count: Array) -> Array:
    """Divides sums by a count, or by one where the count is zero."""
    return sums / jnp.maximum(count, jnp.ones((), count.dtype))


def toward(old: Array, new: Array, weight: Array | float) -> Array:
    """``old + weight * (new - old)``, computed from the nearer end: a weight of one gives exactly ``new``."""
    weight = jnp.asarray(weight, old.dtype)
    near_new = new + (jnp.ones((), old.dtype) - weight) * (old - new)
    return jnp.where(weight > 0.5, near_new, old + weight * (new - old))


def rounded_average(sums: Array, count: Array) -> Array:
    """Like ``average``, but rounds only once: if all numbers are equal and their sum is exact, the mean is exact too.

    If XLA knows the count at compile time, it multiplies by the inverse instead of dividing. That rounds twice. XLA
    may also recompute the product in another pass over the data and skip one of the two roundings there, so that two
    passes see different means.
    """
    one = jnp.ones((), count.dtype)
    # The minimum is at most one, so the maximum is still the count wherever the count is not zero. XLA cannot see that,
    # so it has to treat the divisor as unknown and really divide.
    unknown = jnp.maximum(count, jnp.minimum(lax.stop_gradient(sums), one))
    return average(sums, unknown)


def variance(total: Array, square: Array, count: Array) -> Array:
    """The biased variance, from the sum of the numbers and the sum of their squares.

    It is as exact as the two sums, even if the mean is a hundred times the deviation: we compute
    ``square - total^2 / count`` in twice the precision.
    """
    mean = rounded_average(total, count)
    # The rounding error of the mean, times the count.
    lost = _minus_product(total, jnp.maximum(count, jnp.ones((), count.dtype)), mean)
    squares = _minus_product(square, total, mean) - mean * lost
    return jnp.maximum(average(squares, count), jnp.zeros((), total.dtype))


def _minus_product(total: Array, a: Array, b: Array) -> Array:
    """``total - a * b`` with hardly more error than for an exact product (Dekker): products of halves are exact."""
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return ((total - a_high * b_high) - (a_high * b_low + a_low * b_high)) - a_low * b_low


def _halves(x: Array) -> tuple[Array, Array]:
    """Splits a number into the sum of two numbers with half of its digits each (Veltkamp's splitting)."""
    # We avoid reduce_precision, because XLA's CPU compiler does not fuse it into the kernel that handles a whole row.
    half = jnp.finfo(x.dtype).nmant // 2 + 1  # type: ignore[no-untyped-call]
    shifted = x * jnp.asarray(2.0**half + 1.0, x.dtype)
    high = shifted - (shifted - x)
    return high, x - high


def count_over(x: Array, where: Array | None, axes: tuple[int, ...], axis_name: NamedAxes | None) -> Array:
    """The number of elements in each sum over ``axes``. These axes, and those where it does not vary, have size 1."""
    dtype = statistics_dtype(x.dtype)
    if where is None:
        own = jnp.full((1,) * x.ndim, math.prod(x.shape[a] for a in axes), dtype)
        return sum_over(own, (), axis_name)
    # A mask may have size 1 along a reduced axis. Each of its elements then stands for all elements along that axis.
    repeated = math.prod(x.shape[a] for a in axes if where.shape[a] == 1)
    return sum_over(where.astype(dtype), axes, axis_name) * jnp.asarray(repeated, dtype)


def full_mask(name: str, x: Array, where: Array | None) -> Array | None:
    """Checks the mask and gives it as many axes as ``x``."""
    if where is None:
        return None
    validate.boolean(name, "where", where)
    validate.broadcastable(name, "where", where.shape, x.shape)
    return where.reshape((1,) * (x.ndim - where.ndim) + where.shape)


def masked(x: Array, where: Array | None) -> Array:
    """``x`` with zeros where the mask is False. It selects, so NaN there cannot reach values or gradients."""
    return x if where is None else jnp.where(where, x, jnp.zeros((), x.dtype))


def moments(
    x: Real[Array, "..."],
    *,
    axis: Axis | None = None,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Moments:
    r"""Mean, biased variance and count over the given axes.

    .. math:: \mu = \frac1n \sum_i x_i, \qquad \sigma^2 = \frac1n \sum_i (x_i - \mu)^2

    It makes two passes over the data and never computes :math:`E[x^2]-E[x]^2`. The sums run over ``axis`` of this
    array, only over elements with ``where`` True, and over all members of ``axis_name``. Members with unequal counts
    are weighted exactly. A member may have no element at all.

    Args:
      x: data.
      axis: the axes to reduce, as in ``jnp.mean``; None means all but the last (the batch statistics of
        features on the last axis).
      where: True on real data; broadcastable to ``x``. Elements with False may hold anything, NaN included.
      axis_name: one or several names of mapped axes (``vmap``, ``shard_map``) that the statistics span.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      Moments without the reduced axes, in at least float32. ``count`` is a scalar unless ``where`` varies along an
      axis that remains. If there is no element at all, mean, variance and count are zero.

    Raises:
      TypeError: ``x`` is not real, or ``where`` not boolean.
      ValueError: an axis is out of range or named twice, ``where`` does not broadcast, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> measured = jaxnorm.moments(jnp.array([[1.0, 10.0], [3.0, 30.0]]), axis=0)
      >>> measured.mean.tolist(), measured.var.tolist(), measured.count.tolist()
      ([2.0, 20.0], [1.0, 100.0], 2.0)

    Notes:
      If data are more than about 1e19 away from their mean, the variance overflows float32 and becomes inf.
    """
    x = validate.real("moments", "x", x)
    named = named_axes("moments", axis_name, axis_index_groups)
    axes = batch_axes("moments", x.ndim, axis)
    mask = full_mask("moments", x, where)
    mean, deviation, count = centered(x, mask, axes, named)
    var = average(sum_over(jnp.square(deviation), axes, named), count)
    return as_moments(mean, var, count, axes)


def centered(
    x: Array, where: Array | None, axes: tuple[int, ...], axis_name: NamedAxes | None
) -> tuple[Array, Array, Array]:
    """Mean, deviation from it (zero where masked) and count, in at least float32, with reduced axes kept at size 1.

    We subtract the mean in two steps: first the rounded mean, then the mean of the differences, which corrects the
    rounding error of the first.
    """
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    count = count_over(x, where, axes, axis_name)
    # No gradient has to flow through this mean: ``rest`` contains it with the opposite sign, so the two cancel.
    mean = lax.stop_gradient(rounded_average(sum_over(data, axes, axis_name), count))
    deviation = masked(data - mean, where)
    rest = rounded_average(sum_over(deviation, axes, axis_name), count)
    return mean + rest, masked(deviation - rest, where), count


def as_moments(mean: Array, var: Array, count: Array, axes: tuple[int, ...]) -> Moments:
    """Packs Moments without the reduced axes; the count is a scalar unless it varies."""
    varies = any(size != 1 for a, size in enumerate(count.shape) if a not in axes)
    count = jnp.squeeze(jnp.broadcast_to(count, mean.shape), axes) if varies else count.reshape(())
    return Moments(jnp.squeeze(mean, axes), jnp.squeeze(var, axes), count)


def align(param: Array, ndim: int, axes: tuple[int, ...]) -> Array:
    """Reshapes an array along the last of ``axes`` so that it broadcasts against data with ``ndim`` axes.

    An array that already has ``ndim`` axes (one value per example, as in adaptive normalization) is not changed. One
    with more axes than ``axes`` broadcasts by NumPy's rule if it varies along ``axes`` alone, as (F, 1, 1) does in
    images with channels first.
    """
    if param.ndim == ndim:
        return param
    if param.ndim > len(axes):
        lead = ndim - param.ndim
        if lead > 0 and all(size == 1 or lead + place in axes for place, size in enumerate(param.shape)):
            return param.reshape((1,) * lead + param.shape)
        raise ValueError(
            f"scale, bias or statistics of shape {param.shape} do not fit the {len(axes)} axes {axes} of x that they "
            "belong to. Give them the shape of x along those axes, or as many axes as x has."
        )
    places = axes[len(axes) - param.ndim :]
    sizes = [1] * ndim
    for place, size in zip(places, param.shape, strict=True):
        sizes[place] = size
    return param.reshape(sizes)


def aligned_param(
    name: str, label: str, param: Array, shape: tuple[int, ...], axes: tuple[int, ...], dtype: DType
) -> Array:
    """Checks a parameter along ``axes`` and reshapes it so that it broadcasts against data of this shape."""
    validate.floating(name, label, param)
    aligned = align(param, len(shape), axes).astype(dtype)
    validate.broadcastable(name, label, aligned.shape, shape, _place(label, shape, axes))
    return aligned


def _place(label: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> str:
    """Says which axes of the data a parameter or a statistic has, and which argument chose them."""
    return (
        f"Here {label} lies along the axes {axes} of x, of shape {tuple(shape[a] for a in axes)}. That follows from "
        "axis, which in batch statistics names what is averaged: leave it out there for features on the last axis."
    )


def aligned_affine(
    name: str, scale: Array | None, bias: Array | None, x: Array, axes: tuple[int, ...]
) -> tuple[Array | None, Array | None]:
    """Checks scale and bias along ``axes``, and gives them the rank and the statistics dtype of ``x``."""
    check_weights(name, scale, bias)
    dtype = statistics_dtype(x.dtype)

    def along(label: str, param: Array | None) -> Array | None:
        return None if param is None else aligned_param(name, label, param, x.shape, axes, dtype)

    return along("scale", scale), along("bias", bias)


def check_weights(caller: str, scale: Any, bias: Any) -> None:
    """Raises TypeError for sizes in the place of weights, and for scale and bias in one."""
    for label, given in (("scale", scale), ("bias", bias)):
        if hasattr(given, "_fields"):
            line = f"Write {caller}(x, *params)."
        elif isinstance(given, int | tuple | list):
            line = (
                "Sizes go by name, num_groups=4; the features are those of axis, whatever their number: axis=(-2, -1)."
            )
        else:
            continue
        raise TypeError(f"{caller}: {label} must be an array of weights, got {objects.describe(given)}. {line}")


def apply_affine(name: str, y: Array, scale: Array | None, bias: Array | None, axes: tuple[int, ...]) -> Array:
    """``y * scale + bias`` along ``axes``, in the dtype of ``y``, at least float32."""
    scale, bias = aligned_affine(name, scale, bias, y, axes)
    y = y if scale is None else y * scale
    return y if bias is None else y + bias


def normalize(
    x: Real[Array, "..."],
    moments: Moments,
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
) -> Float[Array, "..."]:
    r"""Normalizes with the given statistics, whatever their source.

    .. math:: y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    Args:
      x: data.
      moments: statistics from :func:`moments`, from a running average, or from elsewhere.
      scale: factor; None means one. It has the shape of ``x`` along the axes that ``moments`` kept (or the last of
        them), or as many axes as ``x``.
      bias: summand, shaped like ``scale``; None means zero.
      axis: the axes that ``moments`` reduced, as passed to :func:`moments`. None broadcasts ``moments.mean`` by
        NumPy's rule, against the last axes of ``x``.
      epsilon: added to the variance, inside the root.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real.
      ValueError: the statistics, ``scale`` or ``bias`` do not fit ``x``; epsilon is negative.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0, 3.0], [2.0, 6.0]])
      >>> jaxnorm.normalize(x, jaxnorm.moments(x, axis=1), axis=1, epsilon=0.0)
      Array([[-1.,  1.],
             [-1.,  1.]], dtype=float32)
    """
    x = validate.real("normalize", "x", x)
    validate.epsilon("normalize", epsilon)
    if axis is None:
        kept = tuple(range(x.ndim))
    else:
        reduced = validate.axes("normalize", axis, x.ndim)
        kept = tuple(a for a in range(x.ndim) if a not in reduced)
    dtype = statistics_dtype(x.dtype)
    mean, var = (align(m, x.ndim, kept).astype(dtype) for m in (moments.mean, moments.var))
    for label, moment in (("moments.mean", mean), ("moments.var", var)):
        validate.broadcastable("normalize", label, moment.shape, x.shape, _place(label, x.shape, kept))
    y = (x.astype(dtype) - mean) * lax.rsqrt(var + jnp.asarray(epsilon, dtype))
    return apply_affine("normalize", y, scale, bias, kept).astype(x.dtype)


def merge(a: Moments, b: Moments) -> Moments:
    r"""Computes the exact statistics of the union of two disjoint data sets.

    .. math::
       n = n_a + n_b, \qquad \mu = \mu_a + \frac{n_b}{n} (\mu_b - \mu_a), \qquad
       \sigma^2 = \frac{n_a \sigma_a^2 + n_b \sigma_b^2}{n} + \frac{n_a n_b}{n^2} (\mu_b - \mu_a)^2

    Args:
      a: statistics of one set.
      b: statistics of the other set, with the same shapes.

    Returns:
      Moments of both sets together. If one side has count zero, the result is the other side, unchanged. If both
      sides have count zero, the result is zero.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0], [3.0], [5.0], [7.0]])
      >>> jaxnorm.merge(jaxnorm.moments(x[:2]), jaxnorm.moments(x[2:]))
      Moments(mean=Array([4.], dtype=float32), var=Array([5.], dtype=float32), count=Array(4., dtype=float32))

    Notes:
      The formula comes from Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
      variances", 1979.
    """
    count = a.count + b.count
    share_a, share_b = (spread(ratio(n, count), a.mean) for n in (a.count, b.count))
    # If one side is empty we select the mean of the other instead of weighting it. That is exact, and avoids inf - inf.
    delta = b.mean - a.mean
    mean = jnp.where(share_a == 0, b.mean * jnp.sign(share_b), a.mean + share_b * delta)
    var = share_a * a.var + share_b * b.var + share_a * share_b * jnp.square(delta)
    return Moments(mean, var, count)


def to_running(measured: Array, running: Array) -> Array:
    """Casts a measured array to the dtype of the running statistics and stops its gradient."""
    return lax.stop_gradient(measured).astype(running.dtype)


def ratio(part: Array, whole: Array) -> Array:
    """``part / whole`` for counts, with 0/0 = 0."""
    return part / jnp.maximum(whole, jnp.ones((), whole.dtype))


def spread(count: Array, like: Array) -> Array:
    """Adds trailing axes to a count so that it broadcasts against its mean or variance."""
    return count.reshape(count.shape + (1,) * (like.ndim - count.ndim))
