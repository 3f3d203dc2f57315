"""Batch normalization with an activation. The backward pass works from the output, so it need not keep the input."""

from dataclasses import field
from functools import partial
from typing import Any, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import (
    Moments,
    aligned_param,
    count_over,
    full_mask,
    masked,
    normalize,
    statistics_dtype,
    sum_over,
)
from jaxnorm.norms.core.named_axes import NamedAxes, named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, inverse_deviation, standardize_batch

__all__ = ["InPlaceBatchNorm", "in_place_batch_norm"]


def in_place_batch_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    slope: float = 0.01,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Normalizes each feature over the batch and activates it; keeps only the output for the backward pass.

    .. math:: \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
       z = \phi(\text{scale} \cdot \hat x + \text{bias}), \qquad \phi(a) = \max(a, \text{slope} \cdot a)

    with the moments of batch normalization and a leaky rectifier, which is invertible. For the backward pass we keep z,
    which the next layer keeps anyway, and recover

    .. math:: \hat x = \frac{\phi^{-1}(z) - \text{bias}}{\text{scale}}

    from it. :func:`jaxnorm.batch_norm` with a separate activation would keep one or two arrays more. Values and
    derivatives are the same.

    Args:
      x: data of any shape.
      scale: one factor for each feature, as in :func:`jaxnorm.batch_norm`. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      moments: statistics to normalize with; None measures them from ``x``.
      axis: the axes to reduce; None means all but the last.
      slope: the slope of the leaky rectifier below zero, in (0, 1]; 1 omits the activation.
      epsilon: added to the variance, inside the root.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      z, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the measured Moments, or the
      ones that were passed in.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: the slope is not in (0, 1], shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> z, measured = jaxnorm.zoo.in_place_batch_norm(jnp.array([[1.0], [3.0]]), slope=0.5, epsilon=0.0)
      >>> z.tolist(), measured.mean.tolist()
      ([[-0.5], [1.0]], [2.0])

    Notes:
      The recovered values are as exact as z: in bfloat16, gradients carry its rounding error, magnified below zero by
      1/slope. If the scale of a feature is exactly zero, we cannot recover the feature; the gradient of that scale is
      then zero, so it stays zero. (The paper keeps scales positive.) With given ``moments`` nothing is recovered, since
      they are constants. We describe the paper from memory.

    Reference:
      S. Rota Bulò, L. Porzi, P. Kontschieder, "In-Place Activated BatchNorm for Memory-Optimized Training of DNNs",
      2018, arXiv:1712.02616.
    """
    validate.floating("in_place_batch_norm", "x", x)
    validate.epsilon("in_place_batch_norm", epsilon)
    named = named_axes("in_place_batch_norm", axis_name, axis_index_groups)
    _check_slope("in_place_batch_norm", slope)
    axes = batch_axes("in_place_batch_norm", x.ndim, axis)
    refuse_reduced("in_place_batch_norm", x.shape, axis, axes, scale=scale, bias=bias)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    mask = full_mask("in_place_batch_norm", x, where)
    dtype = statistics_dtype(x.dtype)
    one, zero = jnp.ones((1,) * x.ndim, dtype), jnp.zeros((1,) * x.ndim, dtype)
    factor = one if scale is None else aligned_param("in_place_batch_norm", "scale", scale, x.shape, kept, dtype)
    summand = zero if bias is None else aligned_param("in_place_batch_norm", "bias", bias, x.shape, kept, dtype)
    if moments is not None:
        y = normalize(masked(x, mask).astype(dtype), moments, factor, summand, axis=axes, epsilon=epsilon)
        return masked(_leaky(slope, y), mask).astype(x.dtype), moments
    z, *measured = _activated(_How(axes, named, epsilon, slope), x, mask, factor, summand)
    return z, Moments(*measured)


class _How(NamedTuple):
    """The static options: the batch axes, epsilon, and the slope of the activation."""

    axes: tuple[int, ...]
    axis_name: NamedAxes | None
    epsilon: float
    slope: float


def _check_slope(caller: str, slope: float) -> None:
    validate.in_range(caller, "slope", slope, 0.0, 1.0)
    if slope == 0.0:
        raise ValueError(f"{caller}: slope must be above 0, got 0: a ReLU cannot be inverted. Use for example 0.01.")


def _leaky(slope: float, a: Array) -> Array:
    return jnp.where(a >= 0, a, slope * a)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _activated(
    how: _How, x: Array, where: Array | None, scale: Array, bias: Array
) -> tuple[Array, Array, Array, Array]:
    """Returns z, mean, variance and count."""
    rule = Standardization(Reduction(how.axes, how.axis_name), how.epsilon)
    y, measured = standardize_batch(rule, x, scale, bias, where=where)
    return masked(_leaky(how.slope, y), where).astype(x.dtype), *measured


@_activated.defjvp
def _activated_jvp(how: _How, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The derivative in terms of the output; ``jax.checkpoint`` makes sure that nothing else is kept."""
    x, where, scale, bias = primals
    z, mean, var, count = _activated(how, *primals)
    rule = Standardization(Reduction(how.axes, how.axis_name), how.epsilon)
    inverse = inverse_deviation(rule, x, where=where)
    recover = jax.checkpoint(partial(_tangents, how))
    changes = recover(z, where, scale, bias, inverse, (tangents[0], *tangents[2:]))
    return (z, mean, var, count), (*changes, jnp.zeros_like(count))


def _tangents(
    how: _How, z: Array, where: Array | None, scale: Array, bias: Array, inverse: Array, along: tuple[Array, ...]
) -> tuple[Array, Array, Array]:
    """The tangents of z, mean and variance for the tangents of x, scale and bias."""
    dtype = scale.dtype
    count = jnp.maximum(count_over(z, where, how.axes, how.axis_name), jnp.ones((), dtype))

    def mean(data: Array) -> Array:
        return sum_over(data, how.axes, how.axis_name) / count

    a = z.astype(dtype)
    rising = a >= 0
    a = jnp.where(rising, a, a / how.slope)
    lost = scale == 0  # we cannot divide by such a scale, so the feature is not recoverable
    x_hat = jnp.where(lost, 0.0, (a - bias) / jnp.where(lost, jnp.ones((), dtype), scale))
    x_hat = masked(x_hat, where)
    t = masked(along[0].astype(dtype), where)
    shift, stretch = mean(t), mean(x_hat * t)
    change = scale * inverse * (t - shift - x_hat * stretch) + along[1] * x_hat + along[2]
    change = masked(jnp.where(rising, change, how.slope * change), where)
    squeeze = partial(jnp.squeeze, axis=how.axes)
    return change.astype(z.dtype), squeeze(shift), squeeze(2.0 * stretch / inverse)


@final
class InPlaceBatchNorm(BatchSpec, HasAxisName):
    """The spec of :func:`in_place_batch_norm`; its fields are its keywords, and those of its update rule.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.InPlaceBatchNorm(slope=0.5, momentum=0.5)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> z, measured = norm(params, jnp.array([[1.0], [3.0]]))
      >>> z.round(2).tolist(), norm.update_running(running, measured).mean.tolist()
      ([[-0.5], [1.0]], [1.0])
    """

    function = staticmethod(in_place_batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    slope: float = DEFAULT
    epsilon: float = DEFAULT
    momentum: float | None = DEFAULT
    ddof: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_slope("InPlaceBatchNorm", self.slope)

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell has its own activations."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, which activates by itself. Use BatchNorm()."
        )
