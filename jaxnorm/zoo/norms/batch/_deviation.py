"""Batch normalization with another deviation than the standard one: the core of the L1, top-k and range norms."""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.moments import (
    Moments,
    align,
    apply_affine,
    as_moments,
    centered,
    full_mask,
    masked,
    statistics_dtype,
)
from jaxnorm.norms.core.named_axes import NamedAxes
from jaxnorm.norms.core.quotient import quotient

Estimate: TypeAlias = Callable[[Array, Array | None, tuple[int, ...], Array], Array]
"""(deviations, zero where masked; mask; reduced axes; count) -> estimated standard deviation, with axes of size 1."""


def scaled_batch_norm(
    name: str,
    x: Array,
    scale: Array | None,
    bias: Array | None,
    *,
    estimate: Estimate,
    moments: Moments | None,
    axis: Axis | None,
    epsilon: float,
    where: Array | None,
    axis_name: NamedAxes | None,
) -> tuple[Array, Moments]:
    """``scale * (x - mean) / (s + epsilon) + bias`` with an estimate s, and Moments whose ``var`` is the square of s.

    If ``moments`` are given, nothing is measured: s is the root of their ``var``.
    """
    validate.floating(name, "x", x)
    validate.epsilon(name, epsilon)
    axes = batch_axes(name, x.ndim, axis)
    refuse_reduced(name, x.shape, axis, axes, scale=scale, bias=bias)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    mask = full_mask(name, x, where)
    if moments is None:
        mean, deviation, count = centered(x, mask, axes, axis_name)
        spread = estimate(deviation, mask, axes, count)
        moments = as_moments(mean, jnp.square(spread), count, axes)
    else:
        dtype = statistics_dtype(x.dtype)
        mean, var = (align(m, x.ndim, kept).astype(dtype) for m in (moments.mean, moments.var))
        validate.broadcastable(name, "moments.mean", mean.shape, x.shape)
        deviation = masked(x.astype(dtype), mask) - mean
        positive = var > 0  # the root has no finite derivative at zero
        spread = jnp.where(positive, jnp.sqrt(jnp.where(positive, var, 1.0)), 0.0)
    # With epsilon=0 a constant feature has the divisor zero, for which quotient gives zero.
    y = quotient(deviation, spread + jnp.asarray(epsilon, deviation.dtype))
    y = apply_affine(name, y, scale, bias, kept)
    return masked(y, mask).astype(x.dtype), moments
