"""The papers' equations in NumPy, float64, one set of elements after the other: slow, obvious, and sharing no code."""

from collections.abc import Callable
from typing import Any

import numpy as np

import jaxnorm as jn
from tests.zoo.norms import row_oracles

Row = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_rows(x: np.ndarray, where: np.ndarray | None, axes: tuple[int, ...], function: Row) -> np.ndarray:
    """Applies ``function(values, positions)`` to the real elements of every row along ``axes``; zero elsewhere."""
    x = np.asarray(x, np.float64)
    keep = np.ones(x.shape, bool) if where is None else np.broadcast_to(where, x.shape)
    axes = tuple(sorted(a % x.ndim for a in axes))
    last = tuple(range(x.ndim - len(axes), x.ndim))
    rows, kept = (np.moveaxis(array, axes, last) for array in (x, keep))
    width = int(np.prod([x.shape[a] for a in axes]))
    flat_rows, flat_kept = rows.reshape(-1, width), kept.reshape(-1, width)
    out = np.zeros_like(flat_rows)
    for row, mask, result in zip(flat_rows, flat_kept, out, strict=True):
        if mask.any():
            result[mask] = function(row[mask], np.flatnonzero(mask))
    return np.moveaxis(out.reshape(rows.shape), last, axes)


def affine(y: np.ndarray, scale: Any, bias: Any, axes: tuple[int, ...], where: np.ndarray | None) -> np.ndarray:
    """Scale and bias that lie along ``axes``, after the normalization; masked elements stay zero."""
    along = [size if a in {b % y.ndim for b in axes} else 1 for a, size in enumerate(y.shape)]
    if scale is not None:
        y = y * np.asarray(scale, np.float64).reshape(along)
    if bias is not None:
        y = y + np.asarray(bias, np.float64).reshape(along)
    return y if where is None else np.where(where, y, 0.0)


def standardized(epsilon: float) -> Row:
    """(x - mean) / sqrt(var + epsilon) of one set of elements, with the biased variance."""

    def row(values: np.ndarray, _: np.ndarray) -> np.ndarray:
        mean = values.sum() / values.size
        var = ((values - mean) ** 2).sum() / values.size
        return (values - mean) / np.sqrt(var + epsilon)

    return row


def layer_norm(x, scale=None, bias=None, *, axis=-1, epsilon=1e-5, where=None):
    """Ba et al. 2016, eqs. 3, 15, 16, with epsilon inside the root as in the authors' code."""
    axes = (axis,) if isinstance(axis, int) else axis
    return affine(by_rows(x, where, axes, standardized(epsilon)), scale, bias, axes, where)


def rms_norm(x, scale=None, bias=None, *, axis=-1, fraction=1.0, epsilon=1e-5, where=None):
    """Zhang, Sennrich 2019, eqs. 4 and 5; k = int(p d) as in the authors' code."""
    axes = (axis,) if isinstance(axis, int) else axis
    first = int(fraction * np.prod([x.shape[a] for a in axes]))

    def row(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        measured = values[positions < first]
        mean_square = (measured**2).sum() / max(measured.size, 1)
        return values / np.sqrt(mean_square + epsilon)

    return affine(by_rows(x, where, axes, row), scale, bias, axes, where)


def reduced_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The batch axes of batch normalization; None stands for all but the last."""
    if axis is None:
        return tuple(range(ndim - 1))
    return tuple(sorted(a % ndim for a in ((axis,) if isinstance(axis, int) else axis)))


def moments(x, *, axis=None, where=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, biased variance and count of every set of real elements along ``axis``; zeros for an empty set."""
    x = np.asarray(x, np.float64)
    axes = reduced_axes(axis, x.ndim)
    keep = np.broadcast_to(True if where is None else where, x.shape)
    kept_shape = tuple(size for a, size in enumerate(x.shape) if a not in axes)
    last = tuple(range(x.ndim - len(axes), x.ndim))
    rows, masks = (np.moveaxis(array, axes, last).reshape(*kept_shape, -1) for array in (x, keep))
    mean, var, count = np.zeros(kept_shape), np.zeros(kept_shape), np.zeros(kept_shape)
    for place in np.ndindex(kept_shape):
        values = rows[place][masks[place]]
        count[place] = values.size
        if values.size:
            mean[place] = values.sum() / values.size
            var[place] = ((values - mean[place]) ** 2).sum() / values.size
    return mean, var, count


def batch_norm(x, scale=None, bias=None, *, axis=None, epsilon=1e-5, where=None):
    """Ioffe, Szegedy 2015, Algorithm 1."""
    axes = reduced_axes(axis, x.ndim)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    return affine(by_rows(x, where, axes, standardized(epsilon)), scale, bias, kept, where)


def group_norm(x, scale=None, bias=None, *, num_groups, axis=None, feature_axis=-1, epsilon=1e-5, where=None):
    """Wu, He 2018, eqs. 1, 2 and 7: each group of features on its own, scale and bias one a feature."""
    feature = feature_axis % x.ndim
    axes = tuple(range(1, x.ndim)) if axis is None else ((axis,) if isinstance(axis, int) else axis)
    full = np.broadcast_to(True if where is None else where, x.shape)
    groups = zip(np.split(x, num_groups, feature), np.split(full, num_groups, feature), strict=True)
    y = np.concatenate([by_rows(part, mask, axes, standardized(epsilon)) for part, mask in groups], feature)
    return affine(y, scale, bias, (feature,), where)


def instance_norm(x, scale=None, bias=None, *, axis=None, feature_axis=-1, epsilon=1e-5, where=None):
    """Ulyanov et al. 2016, eq. 4."""
    feature = feature_axis % x.ndim
    axes = tuple(a for a in range(1, x.ndim) if a != feature) if axis is None else axis
    return affine(by_rows(x, where, axes, standardized(epsilon)), scale, bias, (feature,), where)


def norm_prop(x, scale=None, bias=None, *, activation, where=None):
    """Arpit et al. 2016: the activation without the mean and deviation that it has under a Gaussian."""
    mean, deviation = {"relu": (0.3989422804014327, 0.5838189391163036), "tanh": (0.0, 0.6279287)}[activation]
    inner = affine(x, scale, bias, (x.ndim - 1,), where)
    active = np.maximum(inner, 0.0) if activation == "relu" else np.tanh(inner)
    return affine((active - mean) / deviation, None, None, (), where)


def of_spec(spec: Any, params: Any, x: np.ndarray, where: np.ndarray | None = None, running: Any = None) -> np.ndarray:
    """What a spec must give in training, from the equation of its paper."""
    from tests.zoo.norms import batch_oracles  # it is built upon this file

    x = np.asarray(x, np.float64)
    if type(spec) in row_oracles.ORACLES:
        return row_oracles.ORACLES[type(spec)](spec, params, x, where)
    if isinstance(spec, jn.Identity):
        return affine(x, None, None, (), where)
    if type(spec) in batch_oracles.TRAINED:
        return batch_oracles.TRAINED[type(spec)](spec, params, x, where, running)
    if isinstance(spec, jn.zoo.NormProp):
        return norm_prop(x, *params, activation=spec.activation, where=where)
    fields = {"axis": spec.axis, "epsilon": spec.epsilon, "where": where}
    if isinstance(spec, jn.LayerNorm):
        return layer_norm(x, *params, **fields)
    if isinstance(spec, jn.RMSNorm):
        return rms_norm(x, *params, fraction=spec.fraction, **fields)
    if isinstance(spec, jn.BatchNorm):
        return batch_norm(x, *params, **fields)
    if isinstance(spec, jn.GroupNorm):
        return group_norm(x, *params, num_groups=spec.num_groups, feature_axis=spec.feature_axis, **fields)
    if isinstance(spec, jn.InstanceNorm):
        return instance_norm(x, *params, feature_axis=spec.feature_axis, **fields)
    raise TypeError(f"there is no oracle for {type(spec).__name__} yet: write its paper's equation here")


def measured(spec: Any, x: np.ndarray, where: np.ndarray | None = None, running: Any = None) -> tuple[np.ndarray, ...]:
    """The statistics that a spec must measure, the count last; for most: mean, what stands for the variance, count."""
    from tests.zoo.norms import batch_oracles

    if type(spec) in row_oracles.MEASURED:
        return row_oracles.MEASURED[type(spec)](spec, np.asarray(x, np.float64), where)
    if type(spec) in batch_oracles.MEASURED:
        return batch_oracles.MEASURED[type(spec)](spec, x, where, running)
    return moments(x, axis=spec.axis, where=where)
