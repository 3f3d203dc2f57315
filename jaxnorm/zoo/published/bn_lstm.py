"""BN-LSTMs by the name of their source, beside :func:`jaxnorm.bn_lstm`, which is that of Cooijmans et al.

Every keyword of :class:`LSTM` may be given; it goes before the preset's own choice.
"""

import dataclasses
from typing import Any

from jaxnorm import _validate
from jaxnorm.cells import initializers
from jaxnorm.cells.base import CellNorms
from jaxnorm.cells.lstm import LSTM
from jaxnorm.norms.batch_norm import BatchNorm


def sonnet_bn_lstm(
    hidden_features: int,
    *,
    sites: tuple[str, ...] = ("input", "recurrent"),
    max_steps: int = 1,
    epsilon: float = 1e-3,
    momentum: float | None = 0.999,
    debias: bool = True,
    axis_name: str | tuple[str, ...] | None = None,
    **options: Any,
) -> LSTM:
    r"""The BN-LSTM of Sonnet 1, with batch normalization where one asks for it.

    .. math::
       i, f, g, o &= BN(x_t W; \gamma_x) + BN(h_{t-1} U; \gamma_h) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(BN(c_t; \gamma_c, \beta_c))

    Statistics are those of the batch at the current step. The scales start at 0.1, both kernels truncated normal with
    deviation :math:`1/\sqrt{I + H}`, the forget bias at 1.

    Args:
      hidden_features: H.
      sites: where a norm stands: any of "input", "recurrent" and "cell" (the source's x, h and c).
      max_steps: rows of running statistics, the last for all later steps; 1, the default, pools over time.
      epsilon: added to the variance, inside the root.
      momentum: weight of the old running statistics; None for the exact average.
      debias: whether new values weigh at least their share of all data seen so far, see :func:`jaxnorm.update_running`.
      axis_name: name or names of mapped axes that the batch spans.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Raises:
      ValueError: there is no such site.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.sonnet_bn_lstm(8, sites=("recurrent",), max_steps=10)
      >>> cell.initial_stats().recurrent.mean.shape, cell.initial_stats().input
      ((10, 4, 8), ())

    Notes:
      The source adds its forget bias at run time and draws b and beta_c at random; here they start at 0, and b at 1 for
      the forget gate. With one row it moves its averages at each step, here all steps of a call are folded in at once.
      It has no ``debias``. The momentum is the source's: in less than some thousand steps of training the statistics
      lag behind the weights with it, so take a lower one there.

    Reference:
      Sonnet 1, ``sonnet/python/modules/gated_rnn.py``, ``LSTM(use_batch_norm_h=True)``, 2017, after Cooijmans et al.,
      arXiv:1603.09025.
    """
    for name in sites:
        _validate.choice("sonnet_bn_lstm", "sites", name, ("input", "recurrent", "cell"))
    cell = BatchNorm(epsilon=epsilon, momentum=momentum, debias=debias, scale_init=0.1, axis_name=axis_name)
    gates = dataclasses.replace(cell, use_bias=False)
    defaults: dict[str, Any] = {
        "norm": CellNorms(**{name: cell if name == "cell" else gates for name in sites}),
        "max_steps": max_steps,
        "kernel_init": initializers.truncated_fan_in,
        "recurrent_init": None,
    }
    return LSTM(hidden_features, **(defaults | options))


def laurent_bn_lstm(
    hidden_features: int,
    *,
    max_steps: int,
    epsilon: float = 1e-5,
    momentum: float | None = 0.9,
    debias: bool = True,
    axis_name: str | tuple[str, ...] | None = None,
    **options: Any,
) -> LSTM:
    r"""The LSTM of batch-normalized recurrent networks: only the input product is normalized, each time step apart.

    .. math::
       i, f, g, o &= BN(x_t W; \gamma, \beta) + h_{t-1} U \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Statistics are frame-wise: those of the batch at the current step, so that no step has to know the future. Scale and
    bias are shared over time and start at one and zero; the bias takes the place of b, for the forget gate too. Both
    kernels start Glorot uniform, here for each gate apart, of which the paper does not speak. No norm stands in the
    loop: all statistics are taken before it.

    Args:
      hidden_features: H.
      max_steps: rows of running statistics: the length of the longest training sequence.
      epsilon: added to the variance, inside the root; the paper gives none.
      momentum: weight of the old running statistics; None for the exact average.
      debias: whether new values weigh at least their share of all data seen so far, see :func:`jaxnorm.update_running`.
      axis_name: name or names of mapped axes that the batch spans.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.laurent_bn_lstm(8, max_steps=20)
      >>> cell.initial_stats().input.mean.shape, cell.norm.recurrent
      ((20, 4, 8), Identity())

    Notes:
      For the sequence-wise form, whose statistics are taken over all real steps together, see
      :func:`jaxnorm.sequence_statistics`.

    Reference:
      C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch Normalized Recurrent Neural Networks", 2015,
      arXiv:1510.01378.
    """
    norm = BatchNorm(epsilon=epsilon, momentum=momentum, debias=debias, axis_name=axis_name)
    defaults: dict[str, Any] = {
        "norm": CellNorms(input=norm),
        "use_bias": False,
        "forget_bias": 0.0,
        "max_steps": max_steps,
        "kernel_init": initializers.glorot_uniform,
        "recurrent_init": initializers.glorot_uniform,
    }
    return LSTM(hidden_features, **(defaults | options))
