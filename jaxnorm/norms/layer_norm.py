"""Layer normalization."""

from dataclasses import field, fields, replace
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
from jaxnorm.norms.rms_norm import RMSNorm


@answers_keywords(norm_keywords.FUNCTIONS)
def layer_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis = -1,
    feature_axis: Axis | None = None,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each example over its features.

    .. math::
       \mu = \frac1D \sum_i x_i, \qquad \sigma^2 = \frac1D \sum_i (x_i - \mu)^2, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    where i runs over the D elements of ``axis`` (over those with ``where`` True only, and over all members of
    ``axis_name``). The variance is biased and computed in two passes.

    Args:
      x: data of any shape.
      scale: the gain, one value for each element of ``feature_axis``: an array with the shape of ``x`` along it (in
        ascending order of the axes), or with as many axes as ``x`` (adaptive normalization). None means one.
      bias: the shift, shaped like ``scale``. None means zero.
      axis: the axis or axes that share statistics, or a slice of them: ``slice(1, None)`` is all but the first.
      feature_axis: the axis or axes along which scale and bias lie; None means those of ``axis``.
      epsilon: added to the variance, inside the root. With 0 a constant row gives ``bias``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the features are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, ``scale`` or ``bias`` not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.layer_norm(jnp.array([[1.0, 3.0], [4.0, 4.0]]), epsilon=0.0)
      Array([[-1.,  1.],
             [ 0.,  0.]], dtype=float32)

    Notes:
      Exact for data up to about 1e28 in magnitude. Same computation in training and inference.
      The backward pass keeps x, the statistics and the scale.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eqs. 3, 15, 16.
    """
    x = validate.real("layer_norm", "x", x)
    validate.epsilon("layer_norm", epsilon)
    named = named_axes("layer_norm", axis_name, axis_index_groups)
    axes, features = row_axes("layer_norm", x.ndim, axis, feature_axis)
    mask = full_mask("layer_norm", x, where)
    affine = aligned_affine("layer_norm", scale, bias, x, features)
    y = standardize(Standardization(Reduction(axes, named), epsilon), x, *affine, where=mask)
    return y.astype(x.dtype)


@final
class LayerNorm(RowNorm):
    """The spec of :func:`layer_norm`; its fields are its keywords.

    Scale and bias have the shape of the data along ``feature_axis``, by default along ``axis``.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.LayerNorm()
      >>> y, _ = norm(norm.init((2,)), jnp.array([[1.0, 3.0]]))
      >>> y.round(3)
      Array([[-1.,  1.]], dtype=float32)
    """

    function = staticmethod(layer_norm)
    axis: Axis = field(default=DEFAULT, kw_only=False)
    adds_bias_last = True

    @property
    def subtracts_feature_mean(self) -> bool:
        """True for the last axis, unless ``axis_name`` spreads the features over devices."""
        return self.axis in (-1, (-1,)) and self.axis_name is None

    def over_gates(self) -> "LayerNorm | None":
        """The same over the last two axes."""
        return replace(self, axis=(-2, -1)) if self.feature_axis is None else None

    def without_mean(self) -> RMSNorm:
        """:class:`RMSNorm` with the same fields."""
        return RMSNorm(**{f.name: getattr(self, f.name) for f in fields(LayerNorm)})  # not those of a subclass
