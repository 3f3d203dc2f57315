"""Filter response normalization with its thresholded linear unit."""

from dataclasses import field
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Initializer, Real
from jaxnorm.norms.affine_norm import AffineNorm, HasFeatureAxis, refuse_positions
from jaxnorm.norms.core.axes import position_axes
from jaxnorm.norms.core.moments import (
    aligned_affine,
    aligned_param,
    apply_affine,
    count_over,
    full_mask,
    masked,
    statistics_dtype,
    sum_over,
)
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize

__all__ = ["FilterResponseNorm", "FilterResponseParams", "filter_response_norm"]


class FilterResponseParams(NamedTuple):
    """The parameters of :class:`FilterResponseNorm`; None where the spec has none."""

    scale: Float[Array, " F"] | None
    bias: Float[Array, " F"] | None
    threshold: Float[Array, " F"] | None
    learned_epsilon: Float[Array, ""] | None


def filter_response_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    threshold: Float[Array, "..."] | None = None,
    learned_epsilon: Float[Array, ""] | None = None,
    *,
    axis: Axis | None = None,
    feature_axis: int = -1,
    epsilon: float = 1e-6,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Divides each feature of each example by its root mean square over positions, then thresholds it.

    .. math:: \nu^2_{n,f} = \frac1S \sum_s x_{n,s,f}^2, \qquad
       y = \text{scale}_f \cdot \frac{x}{\sqrt{\nu^2 + \epsilon + |\epsilon_l|}} + \text{bias}_f, \qquad
       z = \max(y, \tau_f)

    over the S positions (height and width) of example n and feature f. The last step is its activation, the thresholded
    linear unit (TLU): since no mean was subtracted, a fixed threshold of zero would not work.

    Args:
      x: data with features on ``feature_axis``, for example (N, height, width, F).
      scale: one factor per feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      threshold: tau, shaped like ``scale``; None omits the TLU.
      learned_epsilon: its magnitude is added to ``epsilon``; use it for data that may have a single position.
      axis: the axes to reduce, which hold the positions; None means all but the first and ``feature_axis``.
      feature_axis: the feature axis; it must not be reduced.
      epsilon: added to the mean square, inside the root. With 0 an all-zero feature gives ``bias`` before the TLU,
        with gradient zero. 0 is not allowed with ``learned_epsilon``.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the positions are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      z, an array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: ``axis`` contains ``feature_axis``, ``feature_axis`` is the first axis where ``axis`` is None, epsilon
        is 0 with ``learned_epsilon``, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([[[2.0], [-2.0]]])  # one example, two positions, one feature
      >>> jaxnorm.zoo.filter_response_norm(x, threshold=jnp.array([-0.5])).round(3)
      Array([[[ 1. ],
              [-0.5]]], dtype=float32)

    Notes:
      Same computation in training and inference; nothing depends on the batch. The paper's fixed epsilon is 1e-6; most
      of our other normalizers use 1e-5. Data without position axes, (N, F), have a single position.

    Reference:
      S. Singh, S. Krishnan, "Filter Response Normalization Layer", 2020, arXiv:1911.09737.
    """
    x = validate.real("filter_response_norm", "x", x)
    validate.epsilon("filter_response_norm", epsilon)
    named = named_axes("filter_response_norm", axis_name, axis_index_groups)
    axes, features = position_axes("filter_response_norm", x.shape, axis, feature_axis)
    mask = full_mask("filter_response_norm", x, where)
    if learned_epsilon is None:
        affine = aligned_affine("filter_response_norm", scale, bias, x, features)
        rule = Standardization(Reduction(axes, named), epsilon, center=False)
        y = standardize(rule, x, *affine, where=mask)
    else:
        validate.floating("filter_response_norm", "learned_epsilon", learned_epsilon)
        validate.shape(
            "filter_response_norm",
            "learned_epsilon",
            learned_epsilon.shape,
            (),
            "()",
            "One number serves all features.",
        )
        if epsilon == 0.0:
            raise ValueError(
                "filter_response_norm: epsilon must be above 0 where learned_epsilon is given, got 0: what is learned "
                "may become zero. Pass for example epsilon=1e-6."
            )
        data = masked(x.astype(statistics_dtype(x.dtype)), mask)
        count = jnp.maximum(count_over(data, mask, axes, named), jnp.ones((), data.dtype))
        mean_square = sum_over(jnp.square(data), axes, named) / count
        y = data * lax.rsqrt(mean_square + (epsilon + jnp.abs(learned_epsilon.astype(data.dtype))))
        y = apply_affine("filter_response_norm", y, scale, bias, features)
    if threshold is not None:
        y = jnp.maximum(y, aligned_param("filter_response_norm", "threshold", threshold, y.shape, features, y.dtype))
    return masked(y, mask).astype(x.dtype)


@final
class FilterResponseNorm(HasFeatureAxis, AffineNorm):
    """The spec of :func:`filter_response_norm`; its fields are its keywords.

    Attributes:
      use_threshold: whether to apply the thresholded linear unit; without it you may apply another activation.
      use_learned_epsilon: whether to add the magnitude of a learned number to epsilon.
      threshold_init: initial value of the threshold; with the paper's zero it starts as a ReLU.
      learned_epsilon_init: initial value of the learned epsilon.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.FilterResponseNorm()
      >>> y, _ = norm(norm.init((1,)), jnp.array([[[2.0], [-2.0]]]))
      >>> y.round(3)
      Array([[[1.],
              [0.]]], dtype=float32)
    """

    function = staticmethod(filter_response_norm)
    params_type = FilterResponseParams
    scalars = ("learned_epsilon",)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    use_bias: bool = DEFAULT
    use_threshold: bool = True
    use_learned_epsilon: bool = False
    bias_init: float | Initializer = DEFAULT
    threshold_init: float | Initializer = 0.0
    learned_epsilon_init: float | Initializer = 1e-4

    def check_site(self, caller: str) -> None:
        """Rejects every site: one step has no positions to reduce."""
        refuse_positions(caller, self)
