"""Scale normalization."""

import math
from dataclasses import field
from typing import final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis, AxisIndexGroups, AxisName, Bool, Float, Initializer
from jaxnorm.norms.affine_norm import AffineNorm
from jaxnorm.norms.core.moments import apply_affine, full_mask, masked, statistics_dtype, sum_over
from jaxnorm.norms.core.named_axes import named_axes
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["ScaleNorm", "scale_norm"]


# As in standardize.py, we multiply data by this power of two before we square them, so norms up to 1e28 are safe.
_SCALE = 2.0**-32
_SMALLEST_SCALED = 1e-7


def scale_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis = -1,
    epsilon: float = 1e-5,
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups | None = None,
) -> Float[Array, "..."]:
    r"""Divides each example by its Euclidean norm and multiplies it by one learned number.

    .. math:: y = \text{scale} \cdot \frac{x}{\max(\lVert x \rVert_2, \epsilon)} + \text{bias}

    with the norm over ``axis``. If the scale is the root of the number of features, this is RMS normalization.

    Args:
      x: data of any shape.
      scale: the factor, a single number in the paper. It may also be an array with the shape of ``x`` along ``axis``,
        or with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero; the paper has none.
      axis: the axis or axes that share the norm.
      epsilon: the smallest divisor; a shorter example is divided by epsilon. With 0 an all-zero example gives ``bias``,
        with gradient zero.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither norms, outputs nor gradients, and the output is zero there.
      axis_name: name or names of mapped axes over which the features are spread.
      axis_index_groups: groups of members of ``axis_name`` with statistics of their own, such as ((0, 1), (2, 3)).

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x``, ``scale`` or ``bias`` is not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, an axis is out of range, or ``axis_name`` is not bound.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.zoo.scale_norm(jnp.array([3.0, 4.0]), jnp.array(10.0)).round(4)
      Array([6., 8.], dtype=float32)

    Notes:
      The paper divides by the norm itself. Its code bounds the norm from below by 1e-5 instead of adding, and so do we;
      both agree if the norm is at least epsilon. Same computation in training and inference.

    Reference:
      T. Q. Nguyen, J. Salazar, "Transformers without Tears", 2019, arXiv:1910.05895.
    """
    validate.floating("scale_norm", "x", x)
    validate.epsilon("scale_norm", epsilon)
    named = named_axes("scale_norm", axis_name, axis_index_groups)
    axes = validate.axes("scale_norm", axis, x.ndim)
    mask = full_mask("scale_norm", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    power = _SCALE if epsilon == 0.0 or epsilon >= _SMALLEST_SCALED else 1.0
    data, shortest = data * power, epsilon * power
    square = sum_over(jnp.square(data), axes, named)
    long = square > shortest**2
    inverse = lax.rsqrt(jnp.where(long, square, jnp.ones((), square.dtype)))
    y = data * jnp.where(long, inverse, 1.0 / shortest if shortest else 0.0)
    y = apply_affine("scale_norm", y, scale, bias, axes)
    return masked(y, mask).astype(x.dtype)


@final
class ScaleNorm(AffineNorm):
    """The spec of :func:`scale_norm`; its fields are its keywords.

    The scale is a single number for all features, the bias has one for each.

    Attributes:
      use_bias: whether there is a bias; the paper has none.
      scale_init: initial value of the scale; None means the paper's: the root of the number of features (of one member
        of ``axis_name``).

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.ScaleNorm()
      >>> y, _ = norm(norm.init((4,)), jnp.array([[2.0, -2.0, 2.0, -2.0]]))
      >>> y
      Array([[ 1., -1.,  1., -1.]], dtype=float32)
    """

    function = staticmethod(scale_norm)
    scalars = ("scale",)
    axis: Axis = field(default=DEFAULT, kw_only=False)
    use_bias: bool = False
    scale_init: float | Initializer | None = None  # type: ignore[assignment]  # None for the default of this normalizer

    def initial_value(self, name: str, shape: tuple[int, ...]) -> float | Initializer:
        """The root of the number of features, for the scale without ``scale_init``."""
        paper = name == "scale" and self.scale_init is None
        return math.sqrt(math.prod(shape)) if paper else super().initial_value(name, shape)

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=-1`` without a scale: a site needs parameters per gate, and the scale is one number."""
        super().check_site(caller)
        if self.use_scale:
            raise ValueError(
                f"{caller}: {self!r} cannot be used inside a cell, where weights have gates and features. Use "
                "RMSNorm(), whose scale starts as this one's and then has a value for each feature, or use_scale=False."
            )
