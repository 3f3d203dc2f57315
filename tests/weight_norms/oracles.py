"""The papers' equations for kernels in NumPy, float64, one output unit after the other, sharing no code."""

from typing import Any

import numpy as np

import jaxnorm as jn


def input_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of the inputs: as given, else all but the last; three axes say nothing without."""
    if axis is None:
        assert ndim != 3, "name the axes"
        return (0,) if ndim == 1 else tuple(range(ndim - 1))
    return tuple(sorted(a % ndim for a in ((axis,) if isinstance(axis, int) else axis)))


def as_rows(kernel, axis=None):
    """The papers' matrix: a row for each output unit. And how to put one back into the shape of the kernel."""
    kernel = np.asarray(kernel, np.float64)
    inputs = input_axes(axis, kernel.ndim)
    units = tuple(a for a in range(kernel.ndim) if a not in inputs)
    order = (*units, *inputs)
    turned = np.transpose(kernel, order)
    rows = turned.reshape(int(np.prod([kernel.shape[a] for a in units])), -1)
    return rows, lambda changed: np.transpose(changed.reshape(turned.shape), np.argsort(order))


def scales(scale, units):
    """One number for each unit."""
    return np.ones(units) if scale is None else np.broadcast_to(np.asarray(scale, np.float64).ravel(), (units,))


def weight_norm(kernel, scale=None, axis=None):
    """Salimans, Kingma 2016, eq. 2."""
    rows, back = as_rows(kernel, axis)
    return back(np.stack([g * v / np.sqrt(sum(v * v)) for v, g in zip(rows, scales(scale, len(rows)), strict=True)]))


def bounded_weight_norm(kernel, rho, scale=None, axis=None):
    """Hoffer et al. 2018: w_i = rho v_i/|v_i|; with a gain as in ``bwn.py``: w_i = v_i/|v_i| g_i rho/|g|."""
    rows, back = as_rows(kernel, axis)
    gains = scales(scale, len(rows))
    share = gains / np.sqrt((gains**2).sum()) if scale is not None else gains
    return back(np.stack([float(rho) * g * v / np.linalg.norm(v) for v, g in zip(rows, share, strict=True)]))


def centered_weight_norm(kernel, scale=None, axis=None, epsilon=0.0):
    """Huang et al. 2017, the length with what the code adds to it."""
    rows, back = as_rows(kernel, axis)
    results = []
    for v, g in zip(rows, scales(scale, len(rows)), strict=True):
        centered = v - v.sum() / v.size
        results.append(g * centered / (np.sqrt((centered**2).sum()) + epsilon))
    return back(np.stack(results))


def weight_standardization(kernel, axis=None, epsilon=1e-5, ddof=0):
    """Qiao et al. 2019."""
    rows, back = as_rows(kernel, axis)
    return back(np.stack([(v - v.mean()) / (v.std(ddof=ddof) + epsilon) for v in rows]))


def power_iteration(kernel, u, v, iterations, axis=None, epsilon=1e-12):
    """Miyato et al. 2018, Algorithm 1."""
    rows, _ = as_rows(kernel, axis)
    for _ in range(iterations):
        v = u @ rows
        v = v / (np.linalg.norm(v) + epsilon)
        u = rows @ v
        u = u / (np.linalg.norm(u) + epsilon)
    return u, v


def spectral_norm(kernel, u, v, scale=None, axis=None):
    """Miyato et al. 2018, eqs. 6 to 8, with given singular vectors."""
    rows, _ = as_rows(kernel, axis)
    sigma = sum(u[i] * rows[i, j] * v[j] for i in range(u.size) for j in range(v.size))
    return np.asarray(kernel, np.float64) / sigma * (1.0 if scale is None else float(scale))


def of_spec(spec: Any, params: Any, state: Any) -> np.ndarray:
    """The kernel that a spec must make, from the equation of its paper."""
    kernel = np.asarray(params.kernel, np.float64)
    if isinstance(spec, jn.weight_norms.UnitNorm):
        return weight_norm(kernel, None, spec.axis)
    if isinstance(spec, jn.WeightNorm):
        return weight_norm(kernel, params.scale, spec.axis)
    if isinstance(spec, jn.weight_norms.BoundedWeightNorm):
        return bounded_weight_norm(kernel, state.rho, params.scale, spec.axis)
    if isinstance(spec, jn.weight_norms.CenteredWeightNorm):
        scale = params.scale if spec.learn_scale else spec.scale_init
        return centered_weight_norm(kernel, scale, spec.axis, spec.epsilon)
    if isinstance(spec, jn.WeightStandardization):
        return weight_standardization(kernel, spec.axis, spec.epsilon, spec.ddof)
    if isinstance(spec, jn.SpectralNorm):
        u, v = (np.asarray(vector, np.float64) for vector in state)
        return spectral_norm(kernel, u, v, params.scale, spec.axis)
    raise TypeError(f"there is no oracle for {type(spec).__name__} yet: write its paper's equation here")
