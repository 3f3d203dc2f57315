"""Batch normalization that subtracts the mean and does not divide."""

from dataclasses import field
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Initializer
from jaxnorm.norms.affine_norm import HasAxisName
from jaxnorm.norms.core.axes import batch_axes, refuse_reduced
from jaxnorm.norms.core.batch_base import BatchStatistics
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
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["MeanOnlyBatchNorm", "mean_only_batch_norm"]


def mean_only_batch_norm(
    x: Float[Array, "..."],
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Subtracts from each feature its mean over the batch.

    .. math:: y = x - \mu + \text{bias}

    Args:
      x: data of any shape; in the paper the product with a weight-normalized kernel.
      bias: summand for each feature, as in :func:`jaxnorm.batch_norm`. None means zero.
      moments: statistics to normalize with; only their mean is used. None measures them from ``x``.
      axis: the axes to reduce; None means all but the last.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The centered array, in shape and dtype like ``x`` (the arithmetic is done in at least float32), and the Moments
      that were measured or passed in. The measured ``var`` is one, since there is no division.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> y, measured = jaxnorm.zoo.mean_only_batch_norm(jnp.array([[1.0], [5.0]]))
      >>> y.tolist(), measured.mean.tolist(), measured.var.tolist()
      ([[-2.0], [2.0]], [3.0], [1.0])

    Reference:
      T. Salimans, D. P. Kingma, "Weight Normalization", 2016, arXiv:1602.07868.
    """
    validate.floating("mean_only_batch_norm", "x", x)
    named = named_axes("mean_only_batch_norm", axis_name, axis_index_groups)
    axes = batch_axes("mean_only_batch_norm", x.ndim, axis)
    refuse_reduced("mean_only_batch_norm", x.shape, axis, axes, bias=bias)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    mask = full_mask("mean_only_batch_norm", x, where)
    if moments is None:
        mean, y, count = centered(x, mask, axes, named)
        seen = jnp.broadcast_to((count > 0).astype(mean.dtype), mean.shape)
        moments = as_moments(mean, seen, count, axes)
    else:
        dtype = statistics_dtype(x.dtype)
        mean = align(moments.mean, x.ndim, kept).astype(dtype)
        validate.broadcastable("mean_only_batch_norm", "moments.mean", mean.shape, x.shape)
        y = masked(x.astype(dtype), mask) - mean
    y = apply_affine("mean_only_batch_norm", y, None, bias, kept)
    return masked(y, mask).astype(x.dtype), moments


@final
class MeanOnlyBatchNorm(BatchStatistics, HasAxisName):
    """The spec of :func:`mean_only_batch_norm`; its fields are its keywords, and those of its update rule.

    Its parameters are ``Affine(None, bias)``.

    Attributes:
      momentum: weight of the old running mean; None for the exact average over all data seen.
      use_bias: whether there is a bias.
      bias_init: initial value of the bias.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.MeanOnlyBatchNorm()
      >>> y, measured = norm(norm.init((1,)), jnp.array([[1.0], [5.0]]))
      >>> y.tolist(), measured.mean.tolist()
      ([[-2.0], [2.0]], [3.0])

    Note:
      The default momentum comes from the paper's code. Only the mean of the running statistics is used.
    """

    function = staticmethod(mean_only_batch_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    momentum: float | None = 0.9
    debias: bool = DEFAULT
    use_bias: bool = True
    bias_init: float | Initializer = 0.0
