"""LSTMs with normalized kernels: presets of :class:`jaxnorm.Reparametrized`."""

from typing import Any

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm.cells.lstm import LSTM
from jaxnorm.cells.wrappers.reparametrized import Reparametrized
from jaxnorm.weight_norms.bounded_weight_norm import BoundedWeightNorm
from jaxnorm.weight_norms.weight_norm import WeightNorm

__all__ = ["bounded_weight_norm_lstm", "weight_norm_lstm"]


@answers_keywords(foreign_keywords.CELLS)
def weight_norm_lstm(hidden_features: int, **options: Any) -> Reparametrized:
    r"""The weight-normalized LSTM: each unit of each gate has its own length and direction, in both kernels.

    .. math::
       v &= g_x \odot \frac{x_t W_v}{\lVert W_v \rVert} + g_h \odot \frac{h_{t-1} U_v}{\lVert U_v \rVert} + b_v
            \quad \text{for each unit of } i, f, g, o \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g), \qquad h_t = \sigma(o) \odot \tanh(c_t)

    The scales start at the lengths of the initial kernels, so it starts as the plain LSTM. The paper does not say how
    to initialize the weights of an LSTM.

    Args:
      hidden_features: H.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> jaxnorm.zoo.weight_norm_lstm(8).init(jax.random.key(0), in_features=3).scale["kernel"].shape
      (32,)

    Reference:
      T. Salimans, D. P. Kingma, "Weight Normalization", 2016, arXiv:1602.07868, eq. 2, at the kernels of an LSTM.
    """
    return Reparametrized(LSTM(hidden_features, **options), WeightNorm())


@answers_keywords(foreign_keywords.CELLS)
def bounded_weight_norm_lstm(hidden_features: int, **options: Any) -> Reparametrized:
    r"""The LSTM with bounded weight normalization: all units of a kernel share one constant length.

    .. math::
       v &= \rho_x \frac{x_t W_v}{\lVert W_v \rVert} + \rho_h \frac{h_{t-1} U_v}{\lVert U_v \rVert} + b_v
            \quad \text{for each unit of } i, f, g, o \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g), \qquad h_t = \sigma(o) \odot \tanh(c_t)

    where :math:`\rho` is the mean length of the initial weights of a kernel's units. Weights start as in a plain LSTM.

    Args:
      hidden_features: H.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.bounded_weight_norm_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.scale, round(float(params.state["recurrent"].rho), 3)  # orthogonal: all lengths are one
      ({}, 1.0)

    Notes:
      The paper reports gains with LSTMs in translation but does not write the cell out. We normalize the same kernels
      as weight normalization does.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters", 2018, arXiv:1803.01814, section on bounded weight
      normalization.
    """
    return Reparametrized(LSTM(hidden_features, **options), BoundedWeightNorm())
