"""Dynamic Tanh, which replaces a normalizer."""

from dataclasses import field
from typing import final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Bool, Float, Initializer, Real
from jaxnorm.norms.affine_norm import HasAffine
from jaxnorm.norms.base import Stateless
from jaxnorm.norms.core.moments import apply_affine, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["DynamicTanh", "DynamicTanhParams", "dynamic_tanh"]


class DynamicTanhParams(NamedTuple):
    """The parameters of :class:`DynamicTanh`: the steepness alpha, scale and bias; None where the spec has none."""

    alpha: Float[Array, ""]
    scale: Float[Array, "..."] | None
    bias: Float[Array, "..."] | None


def dynamic_tanh(
    x: Real[Array, "..."],
    alpha: Float[Array, ""],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    axis: Axis = -1,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Squashes each element with a learned steepness; measures nothing.

    .. math:: y = \text{scale} \cdot \tanh(\alpha x) + \text{bias}

    Args:
      x: data of any shape.
      alpha: the steepness, a single number for the layer.
      scale: factor with the shape of ``x`` along ``axis``, or with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      axis: the axis or axes of scale and bias.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they reach
        neither outputs nor gradients, and the output is zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, another array not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or an axis is out of range.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.zoo.dynamic_tanh(jnp.array([0.0, 2.0, 200.0]), jnp.array(0.5)).round(3)
      Array([0.   , 0.762, 1.   ], dtype=float32)

    Notes:
      It replaces layer normalization but is not a normalizer: it has no statistics and no invariance. Same computation
      in training and inference.

    Reference:
      J. Zhu, X. Chen, K. He, Y. LeCun, Z. Liu, "Transformers without Normalization", 2025, arXiv:2503.10622.
    """
    x = validate.real("dynamic_tanh", "x", x)
    validate.floating("dynamic_tanh", "alpha", alpha)
    validate.shape("dynamic_tanh", "alpha", alpha.shape, (), "()", "The steepness is one number for the layer.")
    axes = validate.axes("dynamic_tanh", axis, x.ndim)
    mask = full_mask("dynamic_tanh", x, where)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    y = jnp.tanh(alpha.astype(data.dtype) * data)
    y = apply_affine("dynamic_tanh", y, scale, bias, axes)
    return masked(y, mask).astype(x.dtype)


@final
class DynamicTanh(HasAffine, Stateless):
    """The spec of :func:`dynamic_tanh`; its fields are its keywords.

    Attributes:
      alpha_init: initial value of the steepness. The paper uses 0.5. For large language models it uses less the
        wider the model is, and more before attention than elsewhere (0.8 and 0.2 with 7 billion weights, 0.2 and 0.05
        with 70 billion).

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.DynamicTanh()
      >>> y, _ = norm(norm.init((2,)), jnp.array([[0.0, 2.0]]))
      >>> y.round(3)
      Array([[0.   , 0.762]], dtype=float32)
    """

    function = staticmethod(dynamic_tanh)
    params_type = DynamicTanhParams
    scalars = ("alpha",)
    axis: Axis = field(default=DEFAULT, kw_only=False)
    alpha_init: float | Initializer = 0.5

    def check_site(self, caller: str) -> None:
        """Rejects every site: the parameters of a site have a value per gate and feature, but alpha is one number."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, where weights have gates and features. Use a normalizer "
            "such as LayerNorm()."
        )
