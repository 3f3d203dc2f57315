"""Instance normalization."""

from dataclasses import field
from typing import final

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Real
from jaxnorm.norms.affine_norm import AffineNorm, HasFeatureAxis, refuse_positions
from jaxnorm.norms.core.axes import position_axes
from jaxnorm.norms.core.moments import aligned_affine, full_mask
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize


@answers_keywords(norm_keywords.FUNCTIONS)
def instance_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis | None = None,
    feature_axis: Axis = -1,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each feature of each example over its positions.

    .. math:: y_{n,s,f} = \text{scale}_f \cdot
       \frac{x_{n,s,f} - \mu_{n,f}}{\sqrt{\sigma^2_{n,f} + \epsilon}} + \text{bias}_f

    with mean and biased variance over the positions s (height and width, or time), separately for each example n and
    feature f.

    Args:
      x: data with features on ``feature_axis``, for example (N, height, width, F).
      scale: one factor per feature, or an array with as many axes as ``x`` (conditional normalization). None means one.
      bias: summand, shaped like ``scale``. None means zero.
      axis: the axes to reduce, which hold the positions; None means all but the first and ``feature_axis``. For an
        example without a batch, features first, name them: ``axis=(1, 2), feature_axis=0``.
      feature_axis: the axis or axes of the features; they must not be reduced.
      epsilon: added to the variance, inside the root. With 0 a constant feature gives ``bias``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the positions are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32. With a single
      position the variance is zero: the output is ``bias``, whatever ``x`` is, with gradient zero.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: ``axis`` contains ``feature_axis``, ``feature_axis`` the first axis where ``axis`` is None, or shapes
        do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[[1.0, 10.0], [3.0, 30.0]]])  # one example, two positions, two features
      >>> jaxnorm.instance_norm(x, epsilon=0.0)
      Array([[[-1., -1.],
              [ 1.,  1.]]], dtype=float32)

    Notes:
      Same computation in training and inference; there are no running statistics. The backward pass keeps x, the
      statistics and the scale. Data without position axes, (N, F), have a single position, as in Flax: such a layer
      passes nothing on. Take :func:`layer_norm` for them.

    Reference:
      D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022, eq. 4.
    """
    x = validate.real("instance_norm", "x", x)
    validate.epsilon("instance_norm", epsilon)
    named = named_axes("instance_norm", axis_name, axis_index_groups)
    axes, features = position_axes("instance_norm", x.shape, axis, feature_axis)
    mask = full_mask("instance_norm", x, where)
    affine = aligned_affine("instance_norm", scale, bias, x, features)
    y = standardize(Standardization(Reduction(axes, named), epsilon), x, *affine, where=mask)
    return y.astype(x.dtype)


@final
class InstanceNorm(HasFeatureAxis, AffineNorm):
    """The spec of :func:`instance_norm`; its fields are its keywords.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.InstanceNorm(epsilon=0.0)
      >>> y, _ = norm(norm.init((1,)), jnp.array([[[1.0], [3.0]]]))
      >>> y.tolist()
      [[[-1.0], [1.0]]]
    """

    function = staticmethod(instance_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)

    def check_site(self, caller: str) -> None:
        """Rejects every site: one step has no positions to reduce."""
        refuse_positions(caller, self)
