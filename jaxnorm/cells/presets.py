"""Published models by name: each is one of the three cells with normalizers at its sites.

You can pass every keyword of the cell, also ``max_steps``; it overrides the preset. Only :func:`bn_lstm` needs
``max_steps``, since batch statistics differ from step to step. A ``norm`` replaces the normalizers of the preset whole.
"""

import dataclasses
from typing import Any

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.initializers import Joint
from jaxnorm.cells.lstm import LSTM
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.batch_norm import BatchNorm
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm


@answers_keywords(foreign_keywords.CELLS)
def elman(hidden_features: int, **options: Any) -> Elman:
    r"""The plain Elman network.

    .. math:: h_t = \tanh(x_t W + h_{t-1} U + b)

    Weights start as in Flax: W truncated normal with variance 1 / I, U orthogonal, b zero. The paper gives none.

    Args:
      hidden_features: H.
      **options: further fields of :class:`Elman`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.elman(8) == jaxnorm.Elman(8)
      True

    Reference:
      J. Elman, "Finding Structure in Time", 1990.
    """
    return Elman(hidden_features, **options)


@answers_keywords(foreign_keywords.CELLS)
def lstm(hidden_features: int, **options: Any) -> LSTM:
    r"""The plain LSTM, with an initial forget bias of 1.

    .. math::
       i, f, g, o &= x_t W + h_{t-1} U + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Kernels start as in Flax, drawn separately for each gate: W truncated normal with variance 1 / I, U orthogonal. The
    paper introduces the forget gate, not this initialization.

    Args:
      hidden_features: H.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.lstm(8) == jaxnorm.LSTM(8)
      True

    Reference:
      F. Gers, J. Schmidhuber, F. Cummins, "Learning to Forget", 2000.
    """
    return LSTM(hidden_features, **options)


@answers_keywords(foreign_keywords.CELLS)
def gru(hidden_features: int, **options: Any) -> GRU:
    r"""The plain GRU with the reset gate after the recurrent product, as in Flax, PyTorch and Keras.

    .. math::
       r &= \sigma(x_t W_r + b_r + h_{t-1} U_r + b_{hr}) \\
       z &= \sigma(x_t W_z + b_z + h_{t-1} U_z + b_{hz}) \\
       n &= \tanh(x_t W_n + b_n + r \odot (h_{t-1} U_n + b_{hn})) \\
       h_t &= (1 - z) \odot n + z \odot h_{t-1}

    Kernels start as in Flax, drawn separately for each gate: W truncated normal with variance 1 / I, U orthogonal.
    Biases start at zero. The paper introduces the cell, not this initialization.

    Args:
      hidden_features: H.
      **options: further fields of :class:`GRU`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.gru(8) == jaxnorm.GRU(8)
      True

    Reference:
      K. Cho et al., 2014, arXiv:1406.1078.
    """
    return GRU(hidden_features, **options)


@answers_keywords(foreign_keywords.CELLS)
def ln_rnn(hidden_features: int, *, epsilon: float = 1e-5, scale: float | Initializer = 1.0, **options: Any) -> Elman:
    r"""The layer-normalized RNN: it normalizes the summed input once.

    .. math::
       a_t &= x_t W + h_{t-1} U, \qquad
       \mu_t = \frac1H \sum_i a_{t,i}, \qquad \sigma_t^2 = \frac1H \sum_i (a_{t,i} - \mu_t)^2 \\
       h_t &= \tanh\Bigl(\frac{g}{\sqrt{\sigma_t^2 + \epsilon}} \odot (a_t - \mu_t) + b\Bigr)

    The gain g (initially ones) and bias b (zeros) are ``params.norm.cell``; the cell has no other bias. The paper does
    not say how to initialize kernels; we do as in :func:`elman`.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      scale: initial value of all gains, a number or an initializer.
      **options: further fields of :class:`Elman`; ``norm`` replaces the normalizers whole, their epsilon too.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.ln_rnn(8).init(jax.random.key(0), in_features=3)
      >>> params.norm.cell.scale.shape, params.bias
      ((8,), None)

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eq. 4.
    """
    defaults: dict[str, Any] = {"norm": CellNorms(cell=LayerNorm(epsilon=epsilon, scale_init=scale)), "use_bias": False}
    return Elman(hidden_features, **overridden(ln_rnn, defaults, options, epsilon=epsilon, scale=scale))


@answers_keywords(foreign_keywords.CELLS)
def ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, scale: float | Initializer = 1.0, **options: Any) -> LSTM:
    r"""The layer-normalized LSTM of the paper: three norms, and the carried c stays raw.

    .. math::
       i, f, g, o &= LN(x_t W; \alpha_2, \beta_2) + LN(h_{t-1} U; \alpha_1, \beta_1) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(LN(c_t; \alpha_3, \beta_3)) \\
       LN(v; \alpha, \beta) &= \alpha \odot \frac{v - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    The first two norms take statistics over all 4H pre-activations together, the third over the H entries of c. Gains
    start at one; biases start at zero, including the forget bias. The paper does not say how to initialize kernels (its
    code does, see ``kiros_ln_lstm``); we do as in :func:`lstm`.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      scale: initial value of all gains, a number or an initializer.
      **options: further fields of :class:`LSTM`; ``norm`` replaces the normalizers whole, their epsilon too.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.ln_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.norm.recurrent.scale.shape, params.norm.cell.scale.shape
      ((32,), (8,))

    Notes:
      The text of the paper's supplement calls alpha the additive and beta the multiplicative parameter; equations and
      published code agree that alpha (``scale``) multiplies. The published code also adds b inside the input norm.

      The norm of the input product takes the length of x away. Where x has few features and its length matters, as
      that of a stroke of a pen does, append a constant to x, or normalize the sum of both products:
      ``LSTM(H, norm=CellNorms(summed=LayerNorm()))``.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, supplement, eqs. 20 to 22.
    """
    defaults: dict[str, Any] = {"norm": LayerNorm(epsilon=epsilon, scale_init=scale), "forget_bias": None}
    return LSTM(hidden_features, **overridden(ln_lstm, defaults, options, epsilon=epsilon, scale=scale))


@answers_keywords(foreign_keywords.CELLS)
def ln_gru(hidden_features: int, *, epsilon: float = 1e-5, scale: float | Initializer = 1.0, **options: Any) -> GRU:
    r"""The layer-normalized GRU of the paper: four norms, and a reset gate that acts on a normalized term.

    .. math::
       r, z &= LN(x_t W; \alpha_2, \beta_2) + LN(h_{t-1} U; \alpha_1, \beta_1) \\
       \hat h_t &= \tanh(LN(x_t W_n; \alpha_3, \beta_3) + \sigma(r) \odot LN(h_{t-1} U_n; \alpha_4, \beta_4)) \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot \hat h_t

    The gates r and z share statistics over their 2H pre-activations; the candidate has its own over H. Gains start at
    one, biases at zero. ``use_bias=False`` removes the cell's two bias vectors (not in the paper; initially zero, added
    after the norms). The paper does not say how to initialize kernels (its code does, see ``kiros_ln_gru``); we do as
    in :func:`gru`.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      scale: initial value of all gains, a number or an initializer.
      **options: further fields of :class:`GRU`; ``norm`` replaces the normalizers whole, their epsilon too.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.ln_gru(8).gate_groups, jaxnorm.ln_gru(8).update_gate
      ((2, 1), 'renew')

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, supplement, eqs. 26 to 28.
    """
    defaults: dict[str, Any] = {"norm": LayerNorm(epsilon=epsilon, scale_init=scale), "update_gate": "renew"}
    return GRU(hidden_features, **overridden(ln_gru, defaults, options, epsilon=epsilon, scale=scale))


@answers_keywords(foreign_keywords.CELLS)
def rms_lstm(hidden_features: int, *, epsilon: float = 1e-5, scale: float | Initializer = 1.0, **options: Any) -> LSTM:
    r"""The LN-LSTM with each layer normalization replaced by a root-mean-square normalization.

    .. math::
       i, f, g, o &= RMS(x_t W; \alpha_2) + RMS(h_{t-1} U; \alpha_1) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(RMS(c_t; \alpha_3)) \\
       RMS(v; \alpha) &= \alpha \odot v \Big/ \sqrt{\tfrac1D \textstyle\sum_i v_i^2 + \epsilon}

    Weights start as in :func:`ln_lstm`; the paper does not discuss those of an LSTM.

    Args:
      hidden_features: H.
      epsilon: added to the mean square, inside the root.
      scale: initial value of all gains, a number or an initializer.
      **options: further fields of :class:`LSTM`; ``norm`` replaces the normalizers whole, their epsilon too.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.rms_lstm(8).norm.cell == jaxnorm.RMSNorm()
      True

    Reference:
      B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv:1910.07467, eq. 4, in the wiring of
      the LN-LSTM.
    """
    defaults: dict[str, Any] = {"norm": RMSNorm(epsilon=epsilon, scale_init=scale), "forget_bias": None}
    return LSTM(hidden_features, **overridden(rms_lstm, defaults, options, epsilon=epsilon, scale=scale))


@answers_keywords(foreign_keywords.CELLS)
def rms_gru(hidden_features: int, *, epsilon: float = 1e-5, scale: float | Initializer = 1.0, **options: Any) -> GRU:
    r"""The LN-GRU with each layer normalization replaced by a root-mean-square normalization.

    .. math::
       r, z &= RMS(x_t W; \alpha_2) + RMS(h_{t-1} U; \alpha_1) \\
       \hat h_t &= \tanh(RMS(x_t W_n; \alpha_3) + \sigma(r) \odot RMS(h_{t-1} U_n; \alpha_4)) \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot \hat h_t

    The cell adds its two bias vectors after the norms (initially zero; ``use_bias=False`` omits them). Weights start as
    in :func:`ln_gru`; the paper does not discuss those of a GRU.

    Args:
      hidden_features: H.
      epsilon: added to the mean square, inside the root.
      scale: initial value of all gains, a number or an initializer.
      **options: further fields of :class:`GRU`; ``norm`` replaces the normalizers whole, their epsilon too.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.rms_gru(8).update_gate
      'renew'

    Reference:
      B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", 2019, arXiv:1910.07467, eq. 4, in the wiring of
      the LN-GRU.
    """
    defaults: dict[str, Any] = {"norm": RMSNorm(epsilon=epsilon, scale_init=scale), "update_gate": "renew"}
    return GRU(hidden_features, **overridden(rms_gru, defaults, options, epsilon=epsilon, scale=scale))


@answers_keywords(foreign_keywords.CELLS)
def bn_lstm(
    hidden_features: int,
    *,
    max_steps: int,
    epsilon: float = 1e-5,
    momentum: float | None = 0.9,
    debias: bool = True,
    scale: float | Initializer = 0.1,
    axis_name: str | tuple[str, ...] | None = None,
    **options: Any,
) -> LSTM:
    r"""The batch-normalized LSTM of recurrent batch normalization, with separate statistics for each time step.

    .. math::
       i, f, g, o &= BN(x_t W; \gamma_x, 0) + BN(h_{t-1} U; \gamma_h, 0) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(BN(c_t; \gamma_c, \beta_c)) \\
       BN(v; \gamma, \beta) &= \gamma \odot \frac{v - E[v]}{\sqrt{Var[v] + \epsilon}} + \beta

    Training normalizes with mean and biased variance of the batch at the current step. Inference uses running
    statistics: one row for each of the first ``max_steps`` steps; the last row serves all later steps. All steps share
    the scales, which start at 0.1. The forget bias starts at 1, other biases at zero, and both kernels orthogonal, with
    all gates in one matrix (I, 4H) or (H, 4H). The carry counts steps (see :class:`CountedCarry`), so that you can
    process a sequence in pieces.

    Args:
      hidden_features: H.
      max_steps: rows of running statistics: the length of the longest training sequence.
      epsilon: added to the variance, inside the root.
      momentum: weight of the old running statistics (the published code has 0.99 and 0.95, without ``debias``); None
        keeps the exact average. To reproduce the published numbers, re-estimate with :func:`jaxnorm.population` and
        ``ddof=0``.
      debias: whether new values weigh at least their share of all data seen so far, see
        :func:`jaxnorm.update_running`. A row with few updates, such as one of late steps, is then their plain average.
      scale: initial value of all scales, a number or an initializer. With 1, tanh saturates and gradients vanish.
      axis_name: name or names of mapped axes that the batch spans.
      **options: further fields of :class:`LSTM`; ``initial_noise=0.1`` is the paper's remedy for inputs that are
        constant over the batch at the first steps.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.bn_lstm(8, max_steps=20)
      >>> cell.initial_stats().recurrent.mean.shape, cell.norm.cell.scale_init
      ((20, 32), 0.1)

    Reference:
      T. Cooijmans, N. Ballas, C. Laurent, C. Gulcehre, A. Courville, "Recurrent Batch Normalization", 2017,
      arXiv:1603.09025, eqs. 6 to 8. The forget bias and the one matrix for all gates are those of the published code,
      whose models of digits start with ``recurrent_init=initializers.cooijmans_identity``.
    """
    cell = BatchNorm(epsilon=epsilon, momentum=momentum, debias=debias, scale_init=scale, axis_name=axis_name)
    gates = dataclasses.replace(cell, use_bias=False)
    defaults: dict[str, Any] = {
        "norm": CellNorms(input=gates, recurrent=gates, cell=cell),
        "kernel_init": Joint(initializers.orthogonal),
        "recurrent_init": Joint(initializers.orthogonal),
        "max_steps": max_steps,
    }
    settings = {"epsilon": epsilon, "momentum": momentum, "debias": debias, "scale": scale, "axis_name": axis_name}
    return LSTM(hidden_features, **overridden(bn_lstm, defaults, options, **settings))
