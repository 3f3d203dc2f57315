"""Normalization propagation: an activation that keeps normalized inputs normalized, without statistics."""

from dataclasses import field
from typing import final

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Bool, Float, Initializer, Real
from jaxnorm.norms.affine_norm import HasAffine
from jaxnorm.norms.base import Stateless
from jaxnorm.norms.core.moments import apply_affine, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT
from jaxnorm.zoo.norms.propagation.activation_moments import (
    Activation,
    activation_function,
    activation_moments,
    check_activation,
)

__all__ = ["NormProp", "norm_prop"]


def norm_prop(
    x: Real[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    activation: Activation = "relu",
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Applies an activation, subtracts its mean under a Gaussian, and divides by its standard deviation there.

    .. math::
       y = \frac{f(\text{scale} \cdot x + \text{bias}) - m}{s}, \qquad
       m = E[f(z)], \quad s^2 = \mathrm{Var}[f(z)], \quad z \sim N(0, 1)

    where x are the summed inputs of units with incoming weights of length one, :math:`x_i = W_i u / |W_i|` for inputs u
    with mean zero and variance one. Then x has variance one. If x is Gaussian, y again has mean zero and variance one,
    so we do not measure statistics. For the rectified linear unit m = 0.398942 and s = 0.583819.

    Args:
      x: summed inputs with features on the last axis, of units with normalized weights.
      scale: one factor for each feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      activation: f, a name from ``jax.nn`` or an elementwise function; do not apply it to ``x`` yourself.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; the output is
        zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``x`` is not real, ``scale`` or ``bias`` not floating, or ``where`` not boolean.
      ValueError: shapes do not fit, or the activation has an unknown name.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> [round(value, 3) for value in jaxnorm.zoo.norm_prop(jnp.array([-1.0, 1.0])).tolist()]
      [-0.683, 1.03]

    Notes:
      Same computation in training and inference; an example does not see the others. The constants always assume scale
      one and bias zero, whatever values they learn. We take the paper's equation from later papers that quote it.

    Reference:
      D. Arpit, Y. Zhou, B. Kota, V. Govindaraju, "Normalization Propagation", 2016, arXiv:1603.01431.
    """
    x = validate.real("norm_prop", "x", x)
    check_activation("norm_prop", activation)
    mask = full_mask("norm_prop", x, where)
    moments = activation_moments(activation)
    data = masked(x.astype(statistics_dtype(x.dtype)), mask)
    z = apply_affine("norm_prop", data, scale, bias, (x.ndim - 1,))
    y = (activation_function(activation)(z) - moments.mean) / moments.std
    return masked(y, mask).astype(x.dtype)


@final
class NormProp(HasAffine, Stateless):
    """The spec of :func:`norm_prop`; its fields are its keywords.

    Attributes:
      scale_init: initial value of the scale. None means one over the root mean square singular value of the
        activation's Jacobian, 1/1.21 for the rectified linear unit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.NormProp()
      >>> round(norm.init((1,)).scale.item(), 4)
      0.8256
    """

    function = staticmethod(norm_prop)
    activation: Activation = field(default=DEFAULT, kw_only=False)
    scale_init: float | Initializer | None = None  # type: ignore[assignment]  # None for the default of this normalizer

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation("NormProp", self.activation)

    @property
    def axis(self) -> int:
        """The feature axis, which is the axis of scale and bias; nothing is reduced."""
        return -1

    def initial_value(self, name: str, shape: tuple[int, ...]) -> float | Initializer:
        """One over the slope of the activation, for the scale without ``scale_init``."""
        paper = name == "scale" and self.scale_init is None
        return 1.0 / activation_moments(self.activation).jacobian if paper else super().initial_value(name, shape)

    def check_site(self, caller: str) -> None:
        """Rejects every site: a cell applies its own activation to the output of its normalizers."""
        raise ValueError(
            f"{caller}: {self!r} cannot be used inside a cell, since it is an activation. A normalized LSTM takes the "
            "constants of norm_prop_lstm_variances instead."
        )
