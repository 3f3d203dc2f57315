"""EvoNorm-S0: normalization and activation in one layer, with statistics of single examples."""

from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Initializer, Real
from jaxnorm.norms.affine_norm import AffineNorm, HasFeatureAxis
from jaxnorm.norms.core.axes import group_axes, in_groups, split_groups
from jaxnorm.norms.core.moments import aligned_param, apply_affine, full_mask, masked, moments, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["EvoNormParams", "EvoNormS0", "evo_norm_s0"]


class EvoNormParams(NamedTuple):
    """The parameters of :class:`EvoNormB0` and :class:`EvoNormS0`; ``slope`` is the paper's v."""

    scale: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None
    slope: Float[Array, "..."]


def evo_norm_s0(
    x: Real[Array, "..."],
    slope: Float[Array, " F"],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    num_groups: int = 32,
    axis: Axis | None = None,
    feature_axis: int = -1,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Applies swish to the data, and divides by the standard deviation of their group of features.

    .. math:: y = \text{scale}_f \cdot \frac{x \, \sigma(v_f x)}{\sqrt{\mathrm{Var}_{g(f)}(x) + \epsilon}}
       + \text{bias}_f

    with the logistic function sigma and the biased variance over the features of a group and the other reduced axes. It
    does not subtract the mean from x. It contains its activation, so do not apply another one.

    Args:
      x: data with features on ``feature_axis``.
      slope: v, one number per feature, or an array with as many axes as ``x``.
      scale: one factor per feature, shaped like ``slope``. None means one.
      bias: summand, shaped like ``slope``. None means zero.
      num_groups: number of groups; must divide F. -1 means one for each feature.
      axis: the axes to reduce, including ``feature_axis``; None means all but the first, or all if
        ``feature_axis`` is the first, as in an example without a batch.
      feature_axis: the axis that is split into groups.
      epsilon: added to the variance, inside the root. With 0 a constant group gives ``bias``.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the reduced axes (other than the features) are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: ``num_groups`` does not divide the features, ``axis`` lacks ``feature_axis``, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, numpy as np
      >>> y = jaxnorm.zoo.evo_norm_s0(jnp.array([[-2.0, 0.0, 2.0, 4.0]]), jnp.ones(4), num_groups=2)
      >>> np.asarray(y).round(3)
      array([[-0.238,  0.   ,  1.762,  3.928]], dtype=float32)

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from their mean.
      Same computation in training and inference. Without its activation the paper's layer is only the affine map.

    Reference:
      H. Liu, A. Brock, K. Simonyan, Q. V. Le, "Evolving Normalization-Activation Layers", 2020, arXiv:2004.02967.
    """
    x = validate.real("evo_norm_s0", "x", x)
    validate.epsilon("evo_norm_s0", epsilon)
    axes, feature, groups = group_axes("evo_norm_s0", x.shape, num_groups, axis, feature_axis)
    mask = full_mask("evo_norm_s0", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    slopes = aligned_param("evo_norm_s0", "slope", slope, x.shape, (feature,), data.dtype)
    split, members, split_axes = in_groups(data, mask, groups, axes, feature)
    measured = moments(split, axis=split_axes, where=members, axis_name=axis_name, axis_index_groups=axis_index_groups)
    square = jnp.expand_dims(measured.var, split_axes) + epsilon
    # Without epsilon a constant group would give infinity. It gives zero instead, with a zero gradient.
    still = square == 0
    inverse = jnp.where(still, 0.0, lax.rsqrt(jnp.where(still, jnp.ones((), square.dtype), square)))
    swish = data * jax.nn.sigmoid(slopes * data)
    y = (split_groups(swish, groups, feature) * inverse).reshape(x.shape)
    y = apply_affine("evo_norm_s0", y, scale, bias, (feature,))
    return masked(y, mask).astype(x.dtype)


@final
class EvoNormS0(HasFeatureAxis, AffineNorm):
    """The spec of :func:`evo_norm_s0`; its fields are its keywords. Inside a cell use ``axis=-1``.

    Attributes:
      slope_init: initial value of v.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, numpy as np
      >>> norm = jaxnorm.zoo.EvoNormS0(2)
      >>> y, _ = norm(norm.init((4,)), jnp.array([[-2.0, 0.0, 2.0, 4.0]]))
      >>> np.asarray(y).round(3)
      array([[-0.238,  0.   ,  1.762,  3.928]], dtype=float32)
    """

    function = staticmethod(evo_norm_s0)
    params_type = EvoNormParams
    num_groups: int = field(default=DEFAULT, kw_only=False)
    axis: Axis | None = DEFAULT
    feature_axis: int = DEFAULT
    bias_init: float | Initializer = DEFAULT
    slope_init: float | Initializer = 1.0
