"""Group normalization."""

from dataclasses import field
from typing import final

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Real
from jaxnorm.norms.affine_norm import AffineNorm, HasFeatureAxis
from jaxnorm.norms.core.axes import check_groups, group_axes, in_groups, split_groups
from jaxnorm.norms.core.moments import aligned_affine, check_weights, full_mask
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import FeatureGroups, Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize


@answers_keywords(norm_keywords.FUNCTIONS)
def group_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    axis: Axis | None = None,
    feature_axis: int = -1,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each example over groups of its features.

    It splits the F features into consecutive groups of equal size. Within each group it computes mean and biased
    variance over the group's features and the other reduced axes together:

    .. math:: y = \text{scale}_f \cdot \frac{x - \mu_{g(f)}}{\sqrt{\sigma^2_{g(f)} + \epsilon}} + \text{bias}_f

    One group is layer normalization over all of ``axis``; as many groups as features is instance normalization.

    Args:
      x: data with features on ``feature_axis``.
      scale: one factor per feature (not per group), or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      num_groups: number of groups; must divide F. -1 means one for each feature. None means 32, as published, or as
        many as follow from ``group_size``.
      group_size: number of features in a group, in place of ``num_groups``; must divide F.
      axis: the axes to reduce, including ``feature_axis``; None means all but the first, or all if
        ``feature_axis`` is the first, as in an example without a batch.
      feature_axis: the axis that is split into groups.
      epsilon: added to the variance, inside the root. With 0 a constant group gives ``bias``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the reduced axes (other than the features) are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: ``num_groups`` or ``group_size`` does not divide the features, both are given, ``axis`` lacks
        ``feature_axis``, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.group_norm(jnp.array([[1.0, 3.0, 10.0, 30.0]]), num_groups=2, epsilon=0.0)
      Array([[-1.,  1., -1.,  1.]], dtype=float32)

    Notes:
      Same computation in training and inference. The backward pass keeps x, the statistics and the
      scale.

    Reference:
      Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494, eqs. 1, 2 and 7.
    """
    x = validate.real("group_norm", "x", x)
    validate.epsilon("group_norm", epsilon)
    named = named_axes("group_norm", axis_name, axis_index_groups)
    check_weights("group_norm", scale, bias)
    axes, feature, groups = group_axes("group_norm", x.shape, num_groups, axis, feature_axis, group_size)
    mask = full_mask("group_norm", x, where)
    affine = aligned_affine("group_norm", scale, bias, x, (feature,))
    if positions := tuple(a for a in axes if a != feature):
        reduction = Reduction(positions, named, groups=FeatureGroups(feature, x.shape[feature] // groups))
        y = standardize(Standardization(reduction, epsilon), x, *affine, where=mask)
    else:
        # Without position axes, the features of a group form a row, as in layer normalization.
        data, members, rows = in_groups(x, mask, groups, axes, feature)
        split = (None if param is None else split_groups(param, groups, feature) for param in affine)
        rule = Standardization(Reduction(rows, named), epsilon)
        y = standardize(rule, data, *split, where=members)
    return y.reshape(x.shape).astype(x.dtype)


@final
class GroupNorm(HasFeatureAxis, AffineNorm):
    """The spec of :func:`group_norm`; its fields are its keywords. Inside a cell use ``axis=-1``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.GroupNorm(2, epsilon=0.0)
      >>> y, _ = norm(norm.init((4,)), jnp.array([[1.0, 3.0, 10.0, 30.0]]))
      >>> y
      Array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    function = staticmethod(group_norm)
    num_groups: int | None = field(default=DEFAULT, kw_only=False)
    group_size: int | None = DEFAULT
    axis: Axis | None = DEFAULT
    feature_axis: int = DEFAULT

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_groups", check_groups("GroupNorm", self.num_groups, self.group_size))
