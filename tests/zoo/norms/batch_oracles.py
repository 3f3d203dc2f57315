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


def scaled_moments(
    spec: Any, x: np.ndarray, where: Any = None, _: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, squared estimate and count."""
    mean, var, count = oracles.moments(x, axis=spec.axis, where=where)
    for place, values, keep in sets(np.asarray(x, np.float64), spec.axis, where):
        if not keep.any():
            var[place] = 0.0
        elif isinstance(spec, jn.zoo.LpBatchNorm):
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


def ghost_parts(spec: Any, x: np.ndarray, where: Any) -> list[tuple[np.ndarray, Any]]:
    """Data and mask of every ghost batch."""
    keep = np.broadcast_to(True if where is None else where, x.shape)
    starts = range(0, x.shape[0], spec.size)
    return [(x[s : s + spec.size], None if where is None else keep[s : s + spec.size]) for s in starts]


def ghost(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Hoffer et al. 2017: batch normalization of each ghost batch."""
    parts = ghost_parts(spec, x, where)
    fields = {"axis": spec.axis, "epsilon": spec.epsilon}
    return np.concatenate([oracles.batch_norm(part, *params, where=mask, **fields) for part, mask in parts])


def ghost_moments(spec: Any, x: np.ndarray, where: Any = None, _: Any = None) -> tuple[np.ndarray, ...]:
    parts = [oracles.moments(part, axis=spec.axis, where=mask) for part, mask in ghost_parts(spec, x, where)]
    return tuple(np.stack(leaves) for leaves in zip(*parts, strict=True))


def virtual(x: np.ndarray, scale: Any, bias: Any, reference: np.ndarray, *, axis=None, epsilon=1e-5) -> np.ndarray:
    """Salimans et al. 2016, as in the authors' code: means of reference and example, and of their squares."""
    axes, kept = oracles.reduced_axes(axis, x.ndim), kept_axes(axis, x.ndim)
    n, inner = reference.shape[0], axes[1:]
    m1, m2 = reference.mean(axes, keepdims=True), (reference**2).mean(axes, keepdims=True)
    e1, e2 = x.mean(inner, keepdims=True), (x**2).mean(inner, keepdims=True)
    mean, square = e1 / (n + 1) + n * m1 / (n + 1), e2 / (n + 1) + n * m2 / (n + 1)
    return oracles.affine((x - mean) / np.sqrt(epsilon + square - mean**2), scale, bias, kept, None)


def plain(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    return oracles.batch_norm(x, *params, axis=spec.axis, epsilon=spec.epsilon, where=where)


def mean_only(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Salimans, Kingma 2016: t - mean + b."""
    kept = kept_axes(spec.axis, x.ndim)
    mean = along(oracles.moments(x, axis=spec.axis, where=where)[0], x.ndim, kept)
    return oracles.affine((x if where is None else np.where(where, x, 0.0)) - mean, *params, kept, where)


def mean_only_moments(spec: Any, x: np.ndarray, where: Any = None, _: Any = None) -> tuple[np.ndarray, ...]:
    mean, _, count = oracles.moments(x, axis=spec.axis, where=where)
    return mean, (count > 0).astype(float), count


def frozen(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Ioffe, Szegedy 2015, Algorithm 2, line 11."""
    kept = kept_axes(spec.axis, x.ndim)
    mean, var = (along(m, x.ndim, kept) for m in running[:2])
    real = x if where is None else np.where(where, x, 0.0)
    return oracles.affine((real - mean) / np.sqrt(var + spec.epsilon), *params, kept, where)


def given_moments(spec: Any, x: np.ndarray, where: Any, running: Any) -> tuple[np.ndarray, ...]:
    return running.mean, running.var, np.broadcast_to(running.count, running.mean.shape)


def frame_wise(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Laurent et al. 2015: every step is a batch of its own."""
    keep = [None] * len(x) if where is None else np.broadcast_to(where, x.shape)
    steps = zip(x, keep, strict=True)
    return np.stack([oracles.batch_norm(x_t, *params, epsilon=spec.epsilon, where=w) for x_t, w in steps])


def frame_wise_moments(spec: Any, x: np.ndarray, where: Any = None, _: Any = None) -> tuple[np.ndarray, ...]:
    keep = [None] * len(x) if where is None else np.broadcast_to(where, x.shape)
    steps = [oracles.moments(x_t, where=w) for x_t, w in zip(x, keep, strict=True)]
    return tuple(np.stack(leaves) for leaves in zip(*steps, strict=True))


def sequence_wise(x: np.ndarray, mask: np.ndarray, epsilon: float) -> np.ndarray:
    """The masked form of the authors' group: n = sum(mask), mean = sum(x*mask/n), var = sum((x-mean)^2*mask/n)."""
    n = mask.sum()
    mean = (x * mask / n).sum((0, 1))
    var = ((x - mean) ** 2 * mask / n).sum((0, 1))
    return (x - mean) / np.sqrt(var + epsilon)


def momentum(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Seed 003, variant F: moving averages in the training forward."""
    mean, var, count = oracles.moments(x, axis=spec.axis, where=where)
    b = np.where(count > 0, spec.momentum, 1.0)
    mixed = running._replace(mean=b * running.mean + (1 - b) * mean, var=b * running.var + (1 - b) * var)
    return frozen(spec, params, x, where, mixed)


def streaming(spec: Any, params: Any, x: np.ndarray, where: Any, running: Any) -> np.ndarray:
    """Liao et al. 2016: a mixture of long statistics and those of all data since the last weight update."""
    mean, var, count = oracles.moments(x, axis=spec.axis, where=where)
    old = running.short
    n = old.count + count
    short_mean = (old.count * old.mean + count * mean) / n
    short_var = (old.count * (old.var + old.mean**2) + count * (var + mean**2)) / n - short_mean**2
    (a_long, a_short), long = spec.weights, running.long
    mixed = long._replace(mean=a_long * long.mean + a_short * short_mean, var=a_long * long.var + a_short * short_var)
    return frozen(spec, params, x, where, mixed)


TRAINED: dict[type, Callable[..., np.ndarray]] = {
    jn.zoo.BatchRenorm: renormed,
    jn.zoo.LpBatchNorm: scaled,
    jn.zoo.RangeBatchNorm: scaled,
    jn.zoo.GhostBatchNorm: ghost,
    jn.zoo.VirtualBatchNorm: plain,
    jn.zoo.MeanOnlyBatchNorm: mean_only,
    jn.zoo.FrozenBatchNorm: frozen,
    jn.zoo.FrameWiseBatchNorm: frame_wise,
    jn.zoo.MomentumBatchNorm: momentum,
    jn.zoo.StreamingNorm: streaming,
}
"""(spec, params, x, where, running) -> the output in training."""

MEASURED: dict[type, Callable[..., tuple[np.ndarray, ...]]] = {
    jn.zoo.LpBatchNorm: scaled_moments,
    jn.zoo.RangeBatchNorm: scaled_moments,
    jn.zoo.GhostBatchNorm: ghost_moments,
    jn.zoo.MeanOnlyBatchNorm: mean_only_moments,
    jn.zoo.FrozenBatchNorm: given_moments,
    jn.zoo.FrameWiseBatchNorm: frame_wise_moments,
}
"""(spec, x, where, running) -> mean, what stands for the variance, count; others measure mean and variance."""
