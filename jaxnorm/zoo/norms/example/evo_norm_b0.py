"""EvoNorm-B0: normalization and activation in one layer, with statistics of the batch and of single examples."""

from dataclasses import field
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Initializer
from jaxnorm.norms.affine_norm import HasAxisName, refuse_positions
from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.moments import (
    Moments,
    align,
    aligned_param,
    apply_affine,
    full_mask,
    masked,
    statistics_dtype,
)
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.example.evo_norm_s0 import EvoNormParams

__all__ = ["EvoNormB0", "evo_norm_b0"]


def evo_norm_b0(
    x: Float[Array, "..."],
    slope: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    moments: Moments | None = None,
    axis: Axis | None = None,
    position_axis: Axis | None = None,
    epsilon: float = 1e-3,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> tuple[Float[Array, "..."], Moments]:
    r"""Divides by the deviation over the batch, or by a linear function of x plus the example's deviation, if larger.

    .. math:: y = \text{scale} \cdot \frac{x}{\max\bigl(\sqrt{\sigma^2_{\text{batch}} + \epsilon},\;
       v x + \sqrt{\sigma^2_{\text{example}} + \epsilon}\bigr)} + \text{bias}

    with biased variances of each feature, over the batch and its positions, and over the positions of each example. It
    does not subtract the mean from x. It contains its activation, so do not apply another one.

    Args:
      x: data of any shape, for example (N, height, width, F).
      slope: v, one number per feature: an array with the shape of ``x`` along the axes that remain (or the last of
        them), or with as many axes as ``x``.
      scale: factor, shaped like ``slope``. None means one.
      bias: summand, shaped like ``slope``. None means zero.
      moments: batch statistics to normalize with; only their variance is used. None measures them from ``x``.
      axis: the axes of the batch statistic; None means all but the last.
      position_axis: the axes of each example's own statistic; None means the batch axes without the first.
      epsilon: added to both variances, inside the roots.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes that the batch spans.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      The result, with the shape and dtype of ``x`` (the arithmetic is done in at least float32), and the measured
      Moments of the batch, or the ones that were passed in.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: no position axis is left, an axis is out of range, shapes do not fit, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, numpy as np
      >>> x = jnp.array([[[1.0], [3.0]], [[-3.0], [-1.0]]])  # two examples, two positions, one feature
      >>> y, measured = jaxnorm.zoo.evo_norm_b0(x, jnp.ones(1), epsilon=0.0)
      >>> np.asarray(y).ravel().round(3), measured.var.tolist()
      (array([ 0.447,  0.75 , -1.342, -0.447], dtype=float32), [5.0])

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      With ``epsilon=0`` a feature that is constant over the batch is divided by zero. A widely used implementation of
      the paper's formula has an epsilon of 1e-3.

    Reference:
      H. Liu, A. Brock, K. Simonyan, Q. V. Le, "Evolving Normalization-Activation Layers", 2020, arXiv:2004.02967.
    """
    validate.floating("evo_norm_b0", "x", x)
    validate.epsilon("evo_norm_b0", epsilon)
    axes = batch_axes("evo_norm_b0", x.ndim, axis)
    positions = axes[1:] if position_axis is None else validate.axes("evo_norm_b0", position_axis, x.ndim)
    if not positions:
        raise ValueError(
            f"evo_norm_b0: x with shape {x.shape} has no position axis, only the batch axes {axes}: an example of its "
            "own has no variance then. Use data with height and width, or with time."
        )
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    mask = full_mask("evo_norm_b0", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    slopes = aligned_param("evo_norm_b0", "slope", slope, x.shape, kept, data.dtype)
    if moments is None:
        moments = statistics.moments(
            data, axis=axes, where=mask, axis_name=axis_name, axis_index_groups=axis_index_groups
        )
    batch = align(moments.var, x.ndim, kept).astype(data.dtype)
    validate.broadcastable("evo_norm_b0", "moments.var", batch.shape, x.shape)
    example = jnp.expand_dims(statistics.moments(data, axis=positions, where=mask).var, positions)
    y = data / jnp.maximum(jnp.sqrt(batch + epsilon), slopes * data + jnp.sqrt(example + epsilon))
    y = apply_affine("evo_norm_b0", y, scale, bias, kept)
    return masked(y, mask).astype(x.dtype), moments


@final
class EvoNormB0(BatchSpec, HasAxisName):
    """The spec of :func:`evo_norm_b0`; its fields are its keywords, and those of its update rule.

    The weights and running statistics have the shape of the data along the axes that are not reduced.

    Attributes:
      ddof: 0 accumulates the biased variance, 1 the one corrected by m/(m-1), as published.
      slope_init: initial value of v.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.EvoNormB0(momentum=0.5, ddof=0)
      >>> params, running = norm.init((1,)), norm.initial_stats((1,))
      >>> y, measured = norm(params, jnp.array([[[1.0], [3.0]], [[-3.0], [-1.0]]]))
      >>> norm.update_running(running, measured).var.tolist()
      [3.0]
    """

    function = staticmethod(evo_norm_b0)
    params_type = EvoNormParams
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    position_axis: Axis | None = DEFAULT
    epsilon: float = DEFAULT
    momentum: float | None = 0.9
    ddof: int = 1
    bias_init: float | Initializer = DEFAULT
    slope_init: float | Initializer = 1.0

    def check_site(self, caller: str) -> None:
        """Rejects every site: one step has no positions."""
        refuse_positions(caller, self)
