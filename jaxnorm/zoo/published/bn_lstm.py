"""BN-LSTMs named by their source. :func:`jaxnorm.bn_lstm` is the one of Cooijmans et al.

You can pass every keyword of :class:`LSTM`; it overrides the preset. A ``norm`` replaces the
normalizers of the preset whole, their epsilon too.
"""

import dataclasses
from typing import Any

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm.cells import initializers
from jaxnorm.cells.lstm import LSTM
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.batch_norm import BatchNorm

__all__ = ["laurent_bn_lstm", "sonnet_bn_lstm"]


@answers_keywords(foreign_keywords.CELLS)
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
    r"""The BN-LSTM of Sonnet 1, with batch normalization at the sites you choose.

    .. math::
       i, f, g, o &= BN(x_t W; \gamma_x) + BN(h_{t-1} U; \gamma_h) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(BN(c_t; \gamma_c, \beta_c))

    It normalizes with the statistics of the batch at the current step. The scales start at 0.1, both kernels truncated
    normal with deviation :math:`1/\sqrt{I + H}`, and the forget bias at 1.

    Args:
      hidden_features: H.
      sites: the sites with a norm: any of "input", "recurrent" and "cell" (the source's x, h and c).
      max_steps: rows of running statistics; the last serves all later steps. 1, the default, pools over time.
      epsilon: added to the variance, inside the root.
      momentum: weight of the old running statistics; None keeps the exact average.
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
      ((10, 32), ())

    Notes:
      The source adds its forget bias at run time and draws b and beta_c at random; here they start at 0, and b of the
      forget gate at 1. With one row the source updates its averages at each step; here a call folds in all its steps at
      once. The source has no ``debias``. The default momentum is the source's: if you train for less than a few
      thousand steps, the statistics lag behind the weights, so choose a lower one.

    Reference:
      Sonnet 1, ``sonnet/python/modules/gated_rnn.py``, ``LSTM(use_batch_norm_h=True)``, 2017, after Cooijmans et al.,
      arXiv:1603.09025.
    """
    for name in sites:
        validate.choice("sonnet_bn_lstm", "sites", name, ("input", "recurrent", "cell"))
    cell = BatchNorm(epsilon=epsilon, momentum=momentum, debias=debias, scale_init=0.1, axis_name=axis_name)
    gates = dataclasses.replace(cell, use_bias=False)
    defaults: dict[str, Any] = {
        "norm": CellNorms(**{name: cell if name == "cell" else gates for name in sites}),
        "max_steps": max_steps,
        "kernel_init": initializers.truncated_fan_in,
        "recurrent_init": None,
    }
    settings = {"epsilon": epsilon, "momentum": momentum, "debias": debias, "axis_name": axis_name}
    return LSTM(hidden_features, **overridden(sonnet_bn_lstm, defaults, options, **settings))


@answers_keywords(foreign_keywords.CELLS)
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
    r"""The LSTM of batch-normalized recurrent networks: it normalizes only the input product, each time step alone.

    .. math::
       i, f, g, o &= BN(x_t W; \gamma, \beta) + h_{t-1} U \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Statistics are frame-wise: those of the batch at the current step, so no step needs the future. All steps share
    scale and bias, which start at one and zero; the bias replaces b, for the forget gate too. Both kernels start Glorot
    uniform. We draw each gate separately; the paper does not say. The loop contains no norm: all statistics are
    computed before it.

    Args:
      hidden_features: H.
      max_steps: rows of running statistics: the length of the longest training sequence.
      epsilon: added to the variance, inside the root; the paper gives none.
      momentum: weight of the old running statistics; None keeps the exact average.
      debias: whether new values weigh at least their share of all data seen so far, see :func:`jaxnorm.update_running`.
      axis_name: name or names of mapped axes that the batch spans.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.laurent_bn_lstm(8, max_steps=20)
      >>> cell.initial_stats().input.mean.shape, cell.norm.recurrent
      ((20, 32), Identity())

    Notes:
      For the sequence-wise form, with statistics over all real steps together, see
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
    settings = {"epsilon": epsilon, "momentum": momentum, "debias": debias, "axis_name": axis_name}
    return LSTM(hidden_features, **overridden(laurent_bn_lstm, defaults, options, **settings))
