"""Layer normalization."""

import dataclasses
from typing import final

import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._typing import Array, Axis, AxisName, Bool, DTypeLike, Float
from jaxnorm.norms import base
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.core.moments import aligned_affine, full_mask
from jaxnorm.norms.core.reduction import Extent
from jaxnorm.norms.core.standardize import standardize


def layer_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis = -1,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> Float[Array, "..."]:
    r"""Normalizes each example over its features.

    .. math::
       \mu = \frac1D \sum_i x_i, \qquad \sigma^2 = \frac1D \sum_i (x_i - \mu)^2, \qquad
       y = \text{scale} \cdot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \text{bias}

    where i runs over the D elements of ``axis`` (over those with ``where`` True only, and over all members of
    ``axis_name``). The variance is biased and computed in two passes.

    Args:
      x: data of any shape.
      scale: the gain, one value for each element of ``axis``: an array with the shape of ``x`` along ``axis`` (in
        ascending order of the axes), or with as many axes as ``x`` (adaptive normalization). None means one.
      bias: the shift, shaped like ``scale``. None means zero.
      axis: the axis or axes that share statistics.
      epsilon: added to the variance, inside the root. With 0 a constant row gives ``bias``, with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither statistics, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the features are spread.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x``, ``scale`` or ``bias`` is not floating, or ``where`` not boolean.
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
    _validate.floating("layer_norm", "x", x)
    _validate.epsilon("layer_norm", epsilon)
    axes = _validate.axes("layer_norm", axis, x.ndim)
    mask = full_mask("layer_norm", x, where)
    affine = aligned_affine("layer_norm", scale, bias, x, axes)
    over = Extent(axes, axis_name)
    y = standardize(x, over, *affine, where=mask, epsilon=epsilon, center=True)
    return y.astype(x.dtype)


@final
@dataclasses.dataclass(frozen=True)
class LayerNorm(Stateless):
    """The spec of :func:`layer_norm`.

    Attributes:
      axis: the axis or axes that share statistics; scale and bias have the shape of the data along them.
      epsilon: added to the variance, inside the root.
      use_scale: whether there is a scale.
      use_bias: whether there is a bias.
      scale_init: initial value of the scale.
      bias_init: initial value of the bias.
      axis_name: name or names of mapped axes over which the features are spread.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.LayerNorm()
      >>> y, _ = norm(norm.init((2,)), jnp.array([[1.0, 3.0]]))
      >>> y.round(3)
      Array([[-1.,  1.]], dtype=float32)
    """

    axis: Axis = -1
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    scale_init: float = 1.0
    bias_init: float = 0.0
    axis_name: AxisName | None = None

    adds_bias_last = True

    @property
    def subtracts_feature_mean(self):
        return self.axis_name is None

    def without_mean(self):
        from jaxnorm.norms.rms_norm import RMSNorm
        return RMSNorm(self.axis, epsilon=self.epsilon, use_scale=self.use_scale, use_bias=self.use_bias)

    def __post_init__(self) -> None:
        object.__setattr__(self, "axis", base.normalize_axis("LayerNorm", self.axis))
        _validate.epsilon("LayerNorm", self.epsilon)

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data along ``axis``."""
        return base.shape_along("LayerNorm", shape, self.axis)

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """``Affine(scale, bias)`` of the given shape."""
        return base.init_affine(
            shape,
            dtype,
            self.scale_init if self.use_scale else None,
            self.bias_init if self.use_bias else None,
            caller="LayerNorm",
        )

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`layer_norm`; there are no statistics to return."""
        scale, bias = base.affine_of(params, "LayerNorm")
        y = layer_norm(
            x,
            scale,
            bias,
            axis=self.axis,
            epsilon=self.epsilon,
            where=where,
            axis_name=self.axis_name,
        )
        return y, ()

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=-1``."""
        base.check_last_axis(caller, self, self.axis)
