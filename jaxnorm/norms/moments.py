r"""Everything about statistics: measure, merge, normalize with, fold into running ones, average over a data set.

Statistics, normalization and update are three separate functions, so that frozen, ghost, adaptive or cross-device
normalization are compositions of them and not flags.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm import _validate
from jaxnorm._typing import Array, Axis, AxisName, Bool, DType, Float, Int, PyTree


class Moments(NamedTuple):
    """Mean, biased variance, and the number of elements that they stand for.

    ``count`` has the shape of ``mean`` or of a leading part of it (a scalar when every feature saw the same elements;
    ``(T,)`` for statistics of T steps). A count of zero means that nothing was measured: mean and variance are zero
    there and every function below leaves such entries out.
    """

    mean: Float[Array, "..."]
    var: Float[Array, "..."]
    count: Float[Array, "..."]


def statistics_dtype(dtype: Any) -> DType:
    """The dtype in which statistics of data of this dtype are computed: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def sum_over(x: Array, axes: tuple[int, ...], axis_name: AxisName | None) -> Array:
    """Sum over array axes (kept with size 1) and, where given, over named axes."""
    total = jnp.sum(x, axis=axes, keepdims=True)
    if axis_name is None:
        return total
    try:
        return lax.psum(total, axis_name)
    except NameError:
        raise ValueError(
            f"axis_name={axis_name!r} is not bound here. Call inside jax.vmap(..., axis_name={axis_name!r}) or "
            "jax.shard_map over a mesh with that axis, or leave axis_name out."
        ) from None


def count_over(x: Array, where: Array | None, axes: tuple[int, ...], axis_name: AxisName | None) -> Array:
    """Number of elements behind each sum over ``axes``, with those axes (and all that do not vary) kept at size 1."""
    dtype = statistics_dtype(x.dtype)
    if where is None:
        own = jnp.full((1,) * x.ndim, math.prod(x.shape[a] for a in axes), dtype)
        return sum_over(own, (), axis_name)
    # A mask that does not vary along an axis counts each of its elements that many times.
    repeated = math.prod(x.shape[a] for a in axes if where.shape[a] == 1)
    return sum_over(where.astype(dtype), axes, axis_name) * jnp.asarray(repeated, dtype)


def full_mask(name: str, x: Array, where: Array | None) -> Array | None:
    """The mask with as many axes as ``x``, checked."""
    if where is None:
        return None
    _validate.boolean(name, "where", where)
    _validate.broadcastable(name, "where", where.shape, x.shape)
    return where.reshape((1,) * (x.ndim - where.ndim) + where.shape)


def masked(x: Array, where: Array | None) -> Array:
    """``x`` with zeros where the mask is False: a selection, so that NaN there cannot reach values or gradients."""
    return x if where is None else jnp.where(where, x, jnp.zeros((), x.dtype))


def moments(
    x: Float[Array, "..."],
    *,
    axis: Axis | None = None,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> Moments:
    r"""Mean, biased variance and count over the given axes.

    .. math:: \mu = \frac1n \sum_i x_i, \qquad \sigma^2 = \frac1n \sum_i (x_i - \mu)^2

    in two passes over the data (never :math:`E[x^2]-E[x]^2`), where the sums run over ``axis`` of this array, only
    over elements with ``where`` True, and over all members of ``axis_name``. Unequal counts on the members are
    weighted exactly; members with no element at all are fine.

    Args:
      x: data.
      axis: the axes that are reduced, as in ``jnp.mean``; None means all but the last (the batch statistics of
        features on the last axis).
      where: True on real data; broadcastable to ``x``. Elements with False may hold anything, NaN included.
      axis_name: one or several names of mapped axes (``vmap``, ``shard_map``) that the statistics span.

    Returns:
      Moments without the reduced axes, in at least float32. ``count`` is a scalar unless ``where`` varies along a
      kept axis. With no element at all mean, variance and count are zero.

    Raises:
      TypeError: ``x`` is not floating, or ``where`` not boolean.
      ValueError: an axis is out of range or named twice, ``where`` does not broadcast, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.moments(jnp.array([[1.0, 10.0], [3.0, 30.0]]), axis=0)
      Moments(mean=Array([ 2., 20.], dtype=float32), var=Array([  1., 100.], dtype=float32), count=Array(2., dtype=float32))

    Notes:
      The variance of data further than about 1e19 from their mean overflows float32 and becomes inf.
    """
    _validate.floating("moments", "x", x)
    axes = feature_last_axes("moments", axis, x.ndim)
    mask = full_mask("moments", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    count = count_over(x, mask, axes, axis_name)
    divisor = jnp.maximum(count, jnp.ones((), count.dtype))
    mean = sum_over(data, axes, axis_name) / divisor
    deviation = masked(data - mean, mask)
    var = sum_over(jnp.square(deviation), axes, axis_name) / divisor
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    varies = any(count.shape[a] != 1 for a in kept)
    count = jnp.broadcast_to(count, mean.shape) if varies else count.reshape(())
    return Moments(jnp.squeeze(mean, axes), jnp.squeeze(var, axes), jnp.squeeze(count, axes) if varies else count)


def feature_last_axes(name: str, axis: Axis | None, ndim: int) -> tuple[int, ...]:
    """The reduced axes of batch statistics; None stands for all but the last."""
    return tuple(range(ndim - 1)) if axis is None else _validate.axes(name, axis, ndim)


def align(param: Array, ndim: int, axes: tuple[int, ...]) -> Array:
    """Reshapes an array that lies along the last of ``axes`` so that it broadcasts against data with ``ndim`` axes.

    An array that has ``ndim`` axes already (one value per example, as in adaptive normalization) stays as it is.
    """
    if param.ndim == ndim:
        return param
    if param.ndim > len(axes):
        raise ValueError(
            f"scale, bias or statistics of shape {param.shape} do not fit the {len(axes)} axes {axes} of x that they "
            "belong to. Give them the shape of x along those axes, or as many axes as x has."
        )
    places = axes[len(axes) - param.ndim :]
    sizes = [1] * ndim
    for place, size in zip(places, param.shape, strict=True):
        sizes[place] = size
    return param.reshape(sizes)


def apply_affine(name: str, y: Array, scale: Array | None, bias: Array | None, axes: tuple[int, ...]) -> Array:
    """``y * scale + bias`` along ``axes``, in the dtype of ``y``."""
    for label, param in (("scale", scale), ("bias", bias)):
        if param is None:
            continue
        _validate.floating(name, label, param)
        aligned = align(param, y.ndim, axes).astype(y.dtype)
        _validate.broadcastable(name, label, aligned.shape, y.shape)
        y = y * aligned if label == "scale" else y + aligned
    return y


def normalize(
    x: Float[Array, "..."],
    moments: Moments,
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis | None = None,
    epsilon: float = 1e-5,
) -> Float[Array, "..."]:
    r"""Normalizes with the given statistics, wherever they come from.

    .. math:: y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    Args:
      x: data.
      moments: statistics, from :func:`moments`, from a running average, or external.
      scale: factor; None for one. Shaped like ``x`` along the axes that ``moments`` kept (or the last of them), or
        with as many axes as ``x``.
      bias: summand; None for zero; shaped like ``scale``.
      axis: the axes over which ``moments`` were taken, the same as was given to :func:`moments`; None means all but
        the last ones that ``moments.mean`` has, NumPy's broadcasting rule.
      epsilon: added to the variance, inside the root.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not floating.
      ValueError: the statistics, ``scale`` or ``bias`` do not fit ``x``; epsilon is negative.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0, 3.0], [2.0, 6.0]])
      >>> jaxnorm.normalize(x, jaxnorm.moments(x, axis=1), axis=1, epsilon=0.0)
      Array([[-1.,  1.],
             [-1.,  1.]], dtype=float32)
    """
    _validate.floating("normalize", "x", x)
    _validate.epsilon("normalize", epsilon)
    if axis is None:
        kept = tuple(range(x.ndim))
    else:
        reduced = _validate.axes("normalize", axis, x.ndim)
        kept = tuple(a for a in range(x.ndim) if a not in reduced)
    dtype = statistics_dtype(x.dtype)
    mean, var = (align(m, x.ndim, kept).astype(dtype) for m in (moments.mean, moments.var))
    _validate.broadcastable("normalize", "moments.mean", mean.shape, x.shape)
    y = (x.astype(dtype) - mean) * lax.rsqrt(var + jnp.asarray(epsilon, dtype))
    return apply_affine("normalize", y, scale, bias, kept).astype(x.dtype)


def merge(a: Moments, b: Moments) -> Moments:
    r"""Statistics of the union of two disjoint sets of data, exactly.

    .. math::
       n = n_a + n_b, \qquad \mu = \mu_a + \frac{n_b}{n} (\mu_b - \mu_a), \qquad
       \sigma^2 = \frac{n_a \sigma_a^2 + n_b \sigma_b^2}{n} + \frac{n_a n_b}{n^2} (\mu_b - \mu_a)^2

    Args:
      a: statistics of the one set.
      b: statistics of the other, of the same shapes.

    Returns:
      Moments of both together. A side with count zero leaves the other untouched; two of them give zeros.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[1.0], [2.0], [6.0]])
      >>> jaxnorm.merge(jaxnorm.moments(x[:1]), jaxnorm.moments(x[1:]))
      Moments(mean=Array([3.], dtype=float32), var=Array([4.6666665], dtype=float32), count=Array(3., dtype=float32))

    Notes:
      The formula is that of Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
      variances", 1979.
    """
    count = a.count + b.count
    share_a, share_b = (_spread(_ratio(n, count), a.mean) for n in (a.count, b.count))
    # Each mean is selected, not weighted, where the other side is empty: exact, and safe against inf - inf.
    delta = b.mean - a.mean
    mean = jnp.where(share_a == 0, b.mean * jnp.sign(share_b), a.mean + share_b * delta)
    var = share_a * a.var + share_b * b.var + share_a * share_b * jnp.square(delta)
    return Moments(mean, var, count)


def _ratio(part: Array, whole: Array) -> Array:
    """``part / whole`` of counts, with 0/0 = 0."""
    return part / jnp.maximum(whole, jnp.ones((), whole.dtype))


def pool_steps(measured: Moments, rows: int, start: int | Int[Array, ""] = 0) -> Moments:
    """Lays the statistics of T consecutive steps into a table with one row a step, the last row for all later steps.

    Step k of ``measured`` belongs to row ``min(start + k, rows - 1)``; steps that share a row are merged exactly,
    rows that no step belongs to get count zero. With ``rows=1`` all steps are pooled into one.

    Args:
      measured: statistics with a leading time axis, shapes (T, ...).
      rows: number of rows of the table.
      start: index of the first step within its sequence (not zero where a sequence is processed in pieces).

    Returns:
      Moments with shapes (rows, ...).

    Raises:
      ValueError: ``rows`` is not positive, or ``measured`` has no time axis.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> steps = jaxnorm.Moments(jnp.array([[1.0], [2.0], [4.0]]), jnp.zeros((3, 1)), jnp.ones(3))
      >>> jaxnorm.pool_steps(steps, 2)
      Moments(mean=Array([[1.],
             [3.]], dtype=float32), var=Array([[0.],
             [1.]], dtype=float32), count=Array([1., 2.], dtype=float32))
    """
    rows = _validate.positive_int("pool_steps", "rows", rows)
    if measured.mean.ndim == 0 or measured.count.ndim == 0:
        raise ValueError(
            "pool_steps: measured must have a leading time axis in mean, var and count, got shapes "
            f"{measured.mean.shape} and {measured.count.shape}. Statistics of a single step need no pooling."
        )
    steps = measured.mean.shape[0]
    row = jnp.minimum(jnp.asarray(start, jnp.int32) + jnp.arange(steps, dtype=jnp.int32), jnp.int32(rows - 1))

    def per_row(values: Array) -> Array:
        return jax.ops.segment_sum(values, row, num_segments=rows)

    count = per_row(measured.count)
    weight = _spread(_ratio(measured.count, count[row]), measured.mean)
    mean = per_row(weight * measured.mean)
    var = per_row(weight * (measured.var + jnp.square(measured.mean - mean[row])))
    return Moments(mean, var, count)


def fold(
    running: PyTree,
    measured: PyTree,
    *,
    momentum: float | None = 0.99,
    ddof: int = 0,
    start: int | Int[Array, ""] = 0,
) -> PyTree:
    r"""Folds measured statistics into running ones.

    .. math:: r' = \text{momentum} \cdot r + (1 - \text{momentum}) \cdot m

    for the mean and for the variance, the measured variance times :math:`n/(n - \text{ddof})` first. No gradient
    flows. An entry with count zero leaves its running row untouched; one with ``count <= ddof``, whose unbiased
    variance does not exist, moves the mean and leaves the variance.

    Args:
      running: Moments, or any tree of them (the statistics of a whole cell).
      measured: the same tree. Where ``running`` has rows per step, ``measured`` may have any number of steps T on
        its leading axis: they are laid into the rows by :func:`pool_steps`.
      momentum: weight of the old value, in [0, 1], as in Flax (PyTorch's is one minus this); None for the exact
        average over everything seen since count was zero.
      ddof: 0 keeps the biased variance (Flax, Keras), 1 corrects it (PyTorch, Algorithm 2 of batch normalization).
      start: index of the first measured step, where there are rows per step.

    Returns:
      The new running statistics; ``count`` grows by what was measured.

    Raises:
      ValueError: momentum or ddof out of range, or shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> running = jaxnorm.Moments(jnp.zeros(1), jnp.ones(1), jnp.zeros(()))
      >>> measured = jaxnorm.moments(jnp.array([[1.0], [3.0]]))
      >>> jaxnorm.fold(running, measured, momentum=0.9, ddof=1)
      Moments(mean=Array([0.2], dtype=float32), var=Array([1.1], dtype=float32), count=Array(2., dtype=float32))
    """
    if momentum is not None:
        _validate.in_range("fold", "momentum", momentum, 0.0, 1.0)
    if ddof not in (0, 1):
        raise ValueError(f"fold: ddof must be 0 (biased variance) or 1 (corrected by n/(n-1)), got {ddof!r}.")

    def one(old: Moments, new: Moments) -> Moments:
        new = Moments(*map(lax.stop_gradient, _fit_rows(old, new, start)))
        new = Moments(*(leaf.astype(like.dtype) for leaf, like in zip(new, old, strict=True)))
        n = new.count
        new = new._replace(var=new.var * _spread(_correction(n, ddof), new.var))
        if momentum is None:
            mean, var, _ = merge(old, new)
        else:
            weight = jnp.asarray(1.0 - momentum, old.mean.dtype)
            mean = old.mean + weight * (new.mean - old.mean)
            var = old.var + weight * (new.var - old.var)
        return Moments(
            jnp.where(_spread(n, mean) > 0, mean, old.mean),
            jnp.where(_spread(n, var) > ddof, var, old.var),
            old.count + n,
        )

    return map_moments(one, running, measured)


def population(batches: Iterable[PyTree], *, ddof: int = 1, rows: int | None = None) -> PyTree:
    r"""Population statistics from the batches of a data set, with the weights frozen.

    Algorithm 2 of batch normalization: the average of the batch means and the corrected average of the biased batch
    variances,

    .. math:: E[x] = E_B[\mu_B], \qquad \mathrm{Var}[x] = \frac{m}{m-1} E_B[\sigma_B^2]

    for batches of m elements. Where batches (or steps of ragged sequences) differ in size they are weighted by it:
    :math:`E[x] = \sum_B m_B \mu_B / \sum_B m_B`, :math:`\mathrm{Var}[x] = \sum_B m_B \sigma_B^2 / \sum_B (m_B - 1)`,
    which is the same for equal sizes. The spread between the batch means is not part of it (:func:`merge` has it).

    Args:
      batches: measured statistics of one batch after the other (Moments or trees of them), consumed one at a time.
      ddof: 1 for the paper's m/(m-1); 0 without it, as recurrent batch normalization does (Cooijmans et al.).
      rows: lay statistics with a leading time axis into that many rows per step first, see :func:`pool_steps`.

    Returns:
      Statistics of the same structure; ``count`` is the number of elements seen. Entries never seen keep mean zero
      and variance one, those with a single element in every batch (no unbiased variance) variance one.

    Raises:
      ValueError: there is no batch, or ddof is neither 0 nor 1.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> batches = (jaxnorm.moments(x) for x in jnp.array([[[1.0], [3.0]], [[2.0], [6.0]]]))
      >>> jaxnorm.population(batches)
      Moments(mean=Array([3.], dtype=float32), var=Array([5.], dtype=float32), count=Array(4., dtype=float32))

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, Algorithm 2.
    """
    if ddof not in (0, 1):
        raise ValueError(f"population: ddof must be 0 or 1, got {ddof!r}. Pass 1 for the m/(m-1) of Algorithm 2.")

    def start(m: Moments) -> tuple[Array, Array, Array, Array]:
        zero = jnp.zeros_like
        return zero(m.mean), zero(m.var), zero(m.count), zero(m.count)

    def add(sums: tuple[Array, Array, Array, Array], m: Moments) -> tuple[Array, Array, Array, Array]:
        mean, var, n, dof = sums
        new_n = n + m.count
        new_dof = dof + jnp.maximum(m.count - jnp.asarray(ddof, m.count.dtype), jnp.zeros((), m.count.dtype))
        # Running averages, not running sums: they neither grow nor lose digits over a large data set.
        mean = mean + _spread(_ratio(m.count, new_n), mean) * (m.mean - mean)
        var = var + _spread(_ratio(m.count, new_n), var) * (m.var - var)
        return mean, var, new_n, new_dof

    def finish(sums: tuple[Array, Array, Array, Array]) -> Moments:
        mean, var, n, dof = sums
        corrected = var * _spread(_ratio(n, dof), var)
        return Moments(mean, jnp.where(_spread(dof, var) > 0, corrected, jnp.ones_like(var)), n)

    sums: list[tuple[Array, Array, Array, Array]] | None = None
    structure: Any = None
    for batch in batches:
        if rows is not None:
            batch = map_moments(lambda m: pool_steps(m, rows), batch)
        leaves, structure = jax.tree.flatten(batch, is_leaf=is_moments)
        sums = [start(m) for m in leaves] if sums is None else sums
        sums = [add(s, m) for s, m in zip(sums, leaves, strict=True)]
    if sums is None:
        raise ValueError("population: batches is empty. Pass the measured statistics of at least one batch.")
    return jax.tree.unflatten(structure, [finish(s) for s in sums])


def is_moments(node: Any) -> bool:
    """Whether a node of a tree is a Moments."""
    return isinstance(node, Moments)


def map_moments(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Applies a function to every Moments of a tree (and those at the same places of further trees)."""
    return jax.tree.map(function, tree, *rest, is_leaf=is_moments)


def _spread(count: Array, like: Array) -> Array:
    """Makes a count (whose axes lead) broadcast against the mean or variance that it belongs to."""
    return count.reshape(count.shape + (1,) * (like.ndim - count.ndim))


def _correction(n: Array, ddof: int) -> Array:
    one = jnp.ones((), n.dtype)
    return jnp.where(n > ddof, n / jnp.maximum(n - jnp.asarray(ddof, n.dtype), one), one)


def _fit_rows(running: Moments, measured: Moments, start: int | Array) -> Moments:
    if measured.mean.shape == running.mean.shape and isinstance(start, int) and start == 0:
        return measured
    if measured.mean.ndim == running.mean.ndim + 1 and measured.mean.shape[1:] == running.mean.shape:
        pooled = pool_steps(measured, 1)
        return Moments(*(leaf[0] for leaf in pooled))
    if measured.mean.ndim == running.mean.ndim and measured.mean.shape[1:] == running.mean.shape[1:]:
        return pool_steps(measured, running.mean.shape[0], start)
    raise ValueError(
        f"fold: measured.mean has shape {measured.mean.shape}, running.mean {running.mean.shape}. They must be equal "
        "but for a leading time axis. Do both come from the same normalizer or cell?"
    )
