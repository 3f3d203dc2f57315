"""The two constants of the normalized LSTM, which keep its cell state and output at variance one."""

import math
from typing import Literal

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.zoo.norms.propagation.activation_moments import activation_moments

__all__ = ["LSTMVariances", "norm_prop_lstm_variances"]


class LSTMVariances(NamedTuple):
    """Variances of a normalized LSTM, as Python numbers; see :func:`norm_prop_lstm_variances`."""

    cell: float
    """V_c; the LSTM divides c by its root before the nonlinearity."""
    hidden: float
    """V_h; the LSTM divides the output by its root."""


def norm_prop_lstm_variances(
    *,
    input_scale: float = 2.0,
    recurrent_scale: float = 2.0,
    cell_scale: float = 1.0,
    combine: Literal["sum", "independent"] = "sum",
) -> LSTMVariances:
    r"""Computes the variances of cell state and output of an LSTM with normalized weights, before any training.

    .. math::
       V_c &= \frac{\mathrm{Var}[\tanh g] \, (\mathrm{Var}[\sigma(i)] + E[\sigma(i)]^2)}
                   {1 - \mathrm{Var}[\sigma(f)] - E[\sigma(f)]^2} \\
       V_h &= \mathrm{Var}[\tanh(\gamma_c c / \sqrt{V_c})] \, (\mathrm{Var}[\sigma(o)] + E[\sigma(o)]^2)

    with pre-activations i, f, g, o = (g_x + g_h) z and :math:`c / \sqrt{V_c} = z`, z a standard Gaussian. They are
    for the cell

    .. math::
       c_t = \sigma(f_t) c_{t-1} + \sigma(i_t) \tanh(g_t), \qquad
       h_t = \frac{1}{\sqrt{V_h}} \sigma(o_t) \tanh(\gamma_c c_t / \sqrt{V_c})

    with pre-activations :math:`g_x W x_t + g_h U h_{t-1} + b` and weights of length one for each unit. Compute them
    once, with the initial scales, and keep them.

    Args:
      input_scale: g_x, the initial scale of the input product.
      recurrent_scale: g_h, the initial scale of the recurrent product.
      cell_scale: :math:`\gamma_c`, the initial scale of the cell state.
      combine: the standard deviation of a pre-activation: ``"sum"`` for g_x + g_h, as in eqs. 9 and 10 of the paper;
        ``"independent"`` for the root of g_x^2 + g_h^2, as in its eq. 22, which holds if the two products are
        independent.

    Returns:
      LSTMVariances(cell, hidden).

    Raises:
      ValueError: a scale is negative or not finite, ``cell_scale`` or both others are zero, or a wrong word.

    Example:
      >>> import jaxnorm
      >>> variances = jaxnorm.zoo.norm_prop_lstm_variances()
      >>> round(variances.cell, 3), round(variances.hidden, 3)
      (0.557, 0.161)

    Notes:
      The published defaults are for characters of the Penn Treebank; for DRAW all three were 0.5. We assume that inputs
      have mean zero and variance one, and that biases are zero.

    Reference:
      C. Laurent, N. Ballas, P. Vincent, "Recurrent Normalization Propagation", 2017, eqs. 9, 10 and 22.
    """
    where = "norm_prop_lstm_variances"
    validate.choice(where, "combine", combine, ("sum", "independent"))
    scales = {"input_scale": input_scale, "recurrent_scale": recurrent_scale, "cell_scale": cell_scale}
    for name, scale in scales.items():
        validate.in_range(where, name, scale, 0.0, 1e6)
    std = input_scale + recurrent_scale if combine == "sum" else math.hypot(input_scale, recurrent_scale)
    if std == 0.0 or cell_scale == 0.0:
        raise ValueError(f"{where}: cell_scale, and one of the other scales, must be above 0, got {scales}.")
    gate, candidate = activation_moments("sigmoid", std=std), activation_moments("tanh", std=std)
    through_gate = gate.std**2 + gate.mean**2
    cell = candidate.std**2 * through_gate / (1.0 - through_gate)
    return LSTMVariances(cell, activation_moments("tanh", std=cell_scale).std ** 2 * through_gate)
