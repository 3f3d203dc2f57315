"""Normalization by the mean absolute value.

A skeleton to copy to ``jaxnorm/zoo/norms/<family>/<name>.py``: one plain function, one spec, nothing else in the file.
What differs from normalizer to normalizer is marked with ``# 1`` to ``# 3``; the rest stays as it is.
"""

from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, AxisName, Bool, Float, Real
from jaxnorm.norms.affine_norm import AffineNorm
from jaxnorm.norms.core.moments import apply_affine, count_over, full_mask, masked, statistics_dtype, sum_over

__all__ = ["AbsNorm", "abs_norm"]


def abs_norm(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    epsilon: float = 1e-5,  # 1: hyper-parameters, all hashable; each is a field of the spec too
    where: Bool[Array, "..."] | None = None,
    axis_name: AxisName | None = None,
) -> Float[Array, "..."]:
    r"""Divides each example by the mean absolute value of its features.

    .. math:: y = \text{scale} \cdot \frac{x}{\frac1D \sum_i |x_i| + \epsilon} + \text{bias}

    Args:
      x: data with features on the last axis.
      scale: one factor for each feature, or an array with as many axes as ``x``; None means one.
      bias: summand, shaped like ``scale``. None means zero.
      epsilon: added to the mean. With 0 an example of zeros gives NaN.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; the output is
        zero there.
      axis_name: name or names of mapped axes over which the features are spread.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, ``scale`` not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or epsilon is negative.

    Example:
      >>> abs_norm(jnp.array([3.0, -1.0]), jnp.array([2.0, 2.0]), epsilon=0.0).tolist()
      [3.0, -1.0]

    Reference:
      The scale of L1 batch normalization, E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018,
      arXiv:1803.01814, taken over features, without the mean and without the constant.
    """
    x = validate.real("abs_norm", "x", x)
    validate.epsilon("abs_norm", epsilon)
    mask = full_mask("abs_norm", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)  # a selection: NaN under the mask goes nowhere
    axes = (x.ndim - 1,)
    count = jnp.maximum(count_over(data, mask, axes, axis_name), jnp.ones((), data.dtype))
    mean = sum_over(jnp.abs(data), axes, axis_name) / count  # 2: the equation
    y = data / (mean + jnp.asarray(epsilon, data.dtype))
    y = apply_affine("abs_norm", y, scale, bias, axes)
    return masked(y, mask).astype(x.dtype)


@final
class AbsNorm(AffineNorm):  # 3: the fields that it shares with others; with running statistics BatchSpec, HasAxisName
    """The spec of :func:`abs_norm`; its fields are its keywords.

    Example:
      >>> norm = AbsNorm(scale_init=2.0)
      >>> y, _ = norm(norm.init((2,)), jnp.array([[3.0, -1.0]]))
      >>> bool(jnp.allclose(y, jnp.array([[3.0, -1.0]]), atol=1e-4))
      True
    """

    function = staticmethod(abs_norm)
