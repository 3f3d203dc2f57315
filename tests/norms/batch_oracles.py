"""The equations of the batch family in NumPy, float64: what a spec must give in training, and what it must measure."""

from collections.abc import Callable
from typing import Any

import numpy as np

import jaxnorm as jn
from tests.norms import oracles


def kept_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that statistics keep."""
    return tuple(a for a in range(ndim) if a not in oracles.reduced_axes(axis, ndim))


def along(values: Any, ndim: int, axes: tuple[int, ...]) -> np.ndarray:
    """Values that lie along ``axes``, with an axis of size one for every other."""
    values = np.asarray(values, np.float64)
    shape = [1] * ndim
    for a, size in zip(axes, values.shape, strict=True):
        shape[a] = size
    return values.reshape(shape)


def batch_renorm(x, scale, bias, running, *, r_max, d_max, axis=None, epsilon=1e-3, where=None):
    """Ioffe 2017, Algorithm 1, with a running deviation sigma = sqrt(var + epsilon)."""
    kept = kept_axes(axis, x.ndim)
    mean_b, var_b, _ = (along(m, x.ndim, kept) for m in oracles.moments(x, axis=axis, where=where))
    mean, var = (along(m, x.ndim, kept) for m in running[:2])
    sigma_b, sigma = np.sqrt(var_b + epsilon), np.sqrt(var + epsilon)
    r = np.minimum(np.maximum(sigma_b / sigma, 1 / r_max), r_max)
    d = np.minimum(np.maximum((mean_b - mean) / sigma, -d_max), d_max)
    real = x if where is None else np.where(where, x, 0.0)
    return oracles.affine((real - mean_b) / sigma_b * r + d, scale, bias, kept, where)


def renormed(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    return batch_renorm(
        x, *params, running, r_max=spec.r_max, d_max=spec.d_max, axis=spec.axis, epsilon=spec.epsilon, where=where
    )


def sets(x: np.ndarray, axis: Any, where: Any) -> Any:
    """For each place of the statistics: the place, and the elements there with their mask, in order."""
    axes = oracles.reduced_axes(axis, x.ndim)
    kept = kept_axes(axis, x.ndim)
    keep = np.broadcast_to(True if where is None else where, x.shape)
    for place in np.ndindex(*(x.shape[a] for a in kept)):
        index = tuple(place[kept.index(a)] if a in kept else slice(None) for a in range(x.ndim))
        assert len(axes) + len(kept) == x.ndim
        yield place, x[index].reshape(-1), keep[index].reshape(-1)


def largest_constant(n: int) -> float:
    return (1 + np.sqrt(np.pi * np.log(4))) / (2 * np.sqrt(2 * np.log(max(n, 2))))


def lp_estimate(values: np.ndarray, deviation: str, k: int = 10) -> float:
    """Hoffer et al. 2018: the estimate of the standard deviation of one set of elements."""
    absolute = np.sort(np.abs(values - values.mean()))[::-1]
    if deviation == "l1":
        return float(np.sqrt(np.pi / 2) * absolute.mean())
    used = absolute[:1] if deviation == "l_infinity" else absolute[:k]
    return float(largest_constant(values.size) * used.mean())


def range_estimate(values: np.ndarray, keep: np.ndarray, constant: str, chunks: int) -> float:
    """Banner et al. 2018; with chunks as in the authors' code."""
    parts = [v[m] for v, m in zip(np.split(values, chunks), np.split(keep, chunks), strict=True) if m.any()]
    size = np.mean([part.size for part in parts])
    width = np.mean([part.max() for part in parts]) - np.mean([part.min() for part in parts])
    root = np.sqrt(2 * np.log(max(size, 2)))
    factors = {
        "published": 1 / root,
        "consistent": 1 / (2 * root),
        "code": 0.5 * 0.35 * (1 + (np.pi * np.log(4)) ** 0.5) / root,
    }
    return float(width * factors[constant])


def scaled_moments(spec: Any, x: np.ndarray, where: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, squared estimate and count."""
    mean, var, count = oracles.moments(x, axis=spec.axis, where=where)
    for place, values, keep in sets(np.asarray(x, np.float64), spec.axis, where):
        if not keep.any():
            var[place] = 0.0
        elif isinstance(spec, jn.LpBatchNorm):
            var[place] = lp_estimate(values[keep], spec.deviation, spec.k) ** 2
        else:
            var[place] = range_estimate(values, keep, spec.constant, spec.chunks) ** 2
    return mean, var, count


def scaled(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """(x - mean) / (s + epsilon)."""
    kept = kept_axes(spec.axis, x.ndim)
    mean, var, _ = (along(m, x.ndim, kept) for m in scaled_moments(spec, x, where))
    real = x if where is None else np.where(where, x, 0.0)
    return oracles.affine((real - mean) / (np.sqrt(var) + spec.epsilon), *params, kept, where)


TRAINED: dict[type, Callable[..., np.ndarray]] = {
    jn.BatchRenorm: renormed,
    jn.LpBatchNorm: scaled,
    jn.RangeBatchNorm: scaled,
}
"""(spec, params, x, where, running) -> the output in training."""

MEASURED: dict[type, Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
    jn.LpBatchNorm: scaled_moments,
    jn.RangeBatchNorm: scaled_moments,
}
"""(spec, x, where) -> mean, what stands in the place of the variance, count; others measure mean and variance."""
