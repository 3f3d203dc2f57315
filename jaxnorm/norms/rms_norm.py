"""Root-mean-square normalization, and its partial form."""

from dataclasses import field, replace
from typing import final

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Real
from jaxnorm.norms.affine_norm import RowNorm
from jaxnorm.norms.core.axes import row_axes
from jaxnorm.norms.core.moments import aligned_affine, full_mask
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.reduction import Reduction
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.norms.core.standardize import Standardization, standardize


@answers_keywords(norm_keywords.FUNCTIONS)
def rms_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis = -1,
    feature_axis: Axis | None = None,
    fraction: float = 1.0,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Divides each example by the root mean square of its features; does not subtract the mean.

    .. math:: y = \text{scale} \cdot \frac{x}{\sqrt{\frac1k \sum_{i \le k} x_i^2 + \epsilon}} + \text{bias},
       \qquad k = \lfloor p D \rfloor

    where D is the number of elements of ``axis`` and p is ``fraction``. p = 1 is RMSNorm. A smaller p is pRMSNorm: it
    measures only the first k coordinates, and divides all D by the result.

    Args:
      x: data of any shape.
      scale: factor with the shape of ``x`` along ``feature_axis``, or with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero; the paper has none.
      axis: the axis or axes that share the statistic, or a slice of them; a single one if ``fraction`` is below one.
      feature_axis: the axis or axes along which scale and bias lie; None means those of ``axis``.
      fraction: p, in (0, 1].
      epsilon: added to the mean square, inside the root. With 0 an all-zero row gives ``bias``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there. With ``fraction`` the mean runs over
        the real elements among the first k coordinates.
      axis_name: name or names of mapped axes over which the features are spread; not with ``fraction`` below one.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, ``scale`` or ``bias`` not floating, or ``where`` not boolean.
      ValueError: shapes do not fit; an axis is out of range; ``fraction`` is not in (0, 1], leaves no coordinate, or
        is given with several axes or with ``axis_name``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> x = jnp.array([2.0, -2.0, 0.0, 10.0])
      >>> jaxnorm.rms_norm(x, fraction=0.5, epsilon=0.0)
      Array([ 1., -1.,  0.,  5.], dtype=float32)

    Notes:
      Exact for data up to about 1e28 in magnitude. Same computation in training and inference.
      The backward pass keeps x, the statistics and the scale.

    Reference:
      B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv:1910.07467, eqs. 4 and 5 (the
      paper rounds k up; its published code rounds k down, and so do we).
    """
    x = validate.real("rms_norm", "x", x)
    validate.epsilon("rms_norm", epsilon)
    named = named_axes("rms_norm", axis_name, axis_index_groups)
    axes, features = row_axes("rms_norm", x.ndim, axis, feature_axis)
    mask = full_mask("rms_norm", x, where)
    reduction = Reduction(axes, named, leading=_leading("rms_norm", x.shape, axes, fraction, axis_name))
    affine = aligned_affine("rms_norm", scale, bias, x, features)
    y = standardize(Standardization(reduction, epsilon, center=False), x, *affine, where=mask)
    return y.astype(x.dtype)


def _leading(
    caller: str, shape: tuple[int, ...], axes: tuple[int, ...], fraction: float, axis_name: AxisName | None
) -> int | None:
    """The number of leading coordinates that pRMSNorm measures; None for all of them."""
    validate.in_range(caller, "fraction", fraction, 0.0, 1.0)
    if fraction == 1.0:
        return None
    if len(axes) != 1 or axis_name is not None:
        raise ValueError(
            f"{caller}: fraction={fraction} needs a single axis that is not spread over devices, got the axes {axes} "
            f"and axis_name={axis_name!r}. Reshape the features into one axis, or leave fraction at 1."
        )
    leading = int(shape[axes[0]] * fraction)
    if leading < 1:
        raise ValueError(
            f"{caller}: fraction={fraction} of {shape[axes[0]]} features leaves no coordinate to measure. "
            f"Use a fraction of at least {1 / shape[axes[0]]:.3g}."
        )
    return leading


@final
class RMSNorm(RowNorm):
    """The spec of :func:`rms_norm`; its fields are its keywords.

    Scale and bias have the shape of the data along ``feature_axis``, by default along ``axis``.

    Attributes:
      use_bias: whether there is a bias; the paper has none.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.RMSNorm(epsilon=0.0)
      >>> y, _ = norm(norm.init((2,)), jnp.array([[2.0, -2.0]]))
      >>> y
      Array([[ 1., -1.]], dtype=float32)
    """

    function = staticmethod(rms_norm)
    axis: Axis = field(default=DEFAULT, kw_only=False)
    fraction: float = DEFAULT
    use_bias: bool = False
    adds_bias_last = True

    def over_gates(self) -> "RMSNorm | None":
        """The same over the last two axes; None with a fraction, which takes the first features."""
        return replace(self, axis=(-2, -1)) if self.fraction == 1.0 and self.feature_axis is None else None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fraction == 0.0:
            raise ValueError("RMSNorm: fraction must be above 0, got 0. Use 1 for RMSNorm, less for pRMSNorm.")
        validate.in_range("RMSNorm", "fraction", self.fraction, 0.0, 1.0)
