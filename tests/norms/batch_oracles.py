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


TRAINED: dict[type, Callable[..., np.ndarray]] = {jn.BatchRenorm: renormed}
"""(spec, params, x, where, running) -> the output in training."""

MEASURED: dict[type, Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
"""(spec, x, where) -> mean, what stands in the place of the variance, count; others measure mean and variance."""
