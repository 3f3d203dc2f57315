"""LN-LSTMs, named by their source, that normalize the products of x and h separately; and the DRAW cell.

Compare them on the page "What LN-LSTM means" of the documentation. You can pass every keyword of :class:`LSTM`; it
overrides the preset. A ``norm`` replaces the normalizers of the preset whole, their epsilon too.
"""

from typing import Any

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm.cells import initializers
from jaxnorm.cells.initializers import Joint
from jaxnorm.cells.lstm import LSTM
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.layer_norm import LayerNorm

__all__ = ["draw_ln_lstm", "fastrnns_ln_lstm", "haste_ln_lstm", "kiros_ln_lstm", "tfa_ln_lstm"]


@answers_keywords(foreign_keywords.CELLS)
def kiros_ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> LSTM:
    r"""The LN-LSTM of the code published with the paper: it adds the same bias b twice.

    .. math::
       i, f, g, o &= LN(x_t W + b; \alpha_2, \beta_2) + LN(h_{t-1} U; \alpha_1, \beta_1) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(LN(c_t; \alpha_3, \beta_3))

    The first two norms take statistics over all 4H together. W starts uniform in [-0.1, 0.1] (orthogonal if
    I = H), U orthogonal for each gate, and all biases zero, including the forget gate.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> jaxnorm.zoo.kiros_ln_lstm(8).bias_at
      'both'

    Notes:
      The norm subtracts the mean of the inner b, so a constant shift of it has no effect. With b = 0 this is
      ``ln_lstm``.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450; code ryankiros/layer-norm,
      ``layers.py``, ``lnlstm_layer``.
    """
    defaults: dict[str, Any] = {
        "norm": LayerNorm(epsilon=epsilon),
        "bias_at": "both",
        "forget_bias": 0.0,
        "kernel_init": initializers.uniform_or_orthogonal,
    }
    return LSTM(hidden_features, **overridden(kiros_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def haste_ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> LSTM:
    r"""The LN-LSTM of Haste: gains only on both products, one bias after them, gain and bias on c.

    .. math::
       i, f, g, o &= LN(x_t W; \alpha_2) + LN(h_{t-1} U; \alpha_1) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(LN(c_t; \alpha_3, \beta_3))

    The first two norms take statistics over all 4H together. Kernels start Glorot uniform (W) and orthogonal (U),
    drawn separately for each gate; the forget bias starts at 1.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root; a constant in the library.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.haste_ln_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.norm.recurrent.bias, params.norm.cell.bias.shape
      (None, (8,))

    Notes:
      The function is that of ``ln_lstm`` with fewer parameters. Haste orders the gates i g f o.

    Reference:
      Haste, lmnt-com/haste, ``frameworks/pytorch/layer_norm_lstm.py``, 2020.
    """
    products = LayerNorm(epsilon=epsilon, use_bias=False)
    defaults: dict[str, Any] = {
        "norm": CellNorms(input=products, recurrent=products, cell=LayerNorm(epsilon=epsilon)),
        "kernel_init": initializers.glorot_uniform,
    }
    return LSTM(hidden_features, **overridden(haste_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def tfa_ln_lstm(hidden_features: int, *, epsilon: float = 1e-3, **options: Any) -> LSTM:
    r"""The LN-LSTM of TensorFlow Addons: it carries the normalized c.

    .. math::
       i, f, g, o &= LN(x_t W; \alpha_2, \beta_2) + LN(h_{t-1} U; \alpha_1, \beta_1) + b \\
       c_t &= LN(\sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g); \alpha_3, \beta_3) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    The first two norms take statistics over all 4H together. Kernels start Glorot uniform (W) and orthogonal (U), all
    gates in one matrix; the forget bias starts at 1.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.tfa_ln_lstm(8)
      >>> cell.carried_cell, cell.norm.cell.epsilon
      ('normalized', 0.001)

    Notes:
      A normalized c forgets its size at every step, so the cell keeps no state over long times, however open the forget
      gate.

    Reference:
      TensorFlow Addons, ``tensorflow_addons/rnn/layer_norm_lstm_cell.py``, ``LayerNormLSTMCell``, 2019.
    """
    defaults: dict[str, Any] = {
        "norm": LayerNorm(epsilon=epsilon),
        "carried_cell": "normalized",
        "kernel_init": Joint(initializers.glorot_uniform),
        "recurrent_init": Joint(initializers.orthogonal),
    }
    return LSTM(hidden_features, **overridden(tfa_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def fastrnns_ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> LSTM:
    r"""The LN-LSTM of PyTorch's benchmarks: its only biases are those of the norms, and it carries the normalized c.

    .. math::
       i, f, g, o &= LN(x_t W; \alpha_2, \beta_2) + LN(h_{t-1} U; \alpha_1, \beta_1) \\
       c_t &= LN(\sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g); \alpha_3, \beta_3) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    The first two norms take statistics over all 4H together. Both kernels start normal with variance one; there is no
    forget bias.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root; zero is the source's ``decompose_layernorm=True``.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.fastrnns_ln_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.bias, params.norm.input.bias.shape
      (None, (32,))

    Reference:
      PyTorch, ``benchmarks/fastrnns/custom_lstms.py``, ``LayerNormLSTMCell``.
    """
    defaults: dict[str, Any] = {
        "norm": LayerNorm(epsilon=epsilon),
        "carried_cell": "normalized",
        "use_bias": False,
        "forget_bias": 0.0,
        "kernel_init": initializers.standard_normal,
        "recurrent_init": initializers.standard_normal,
    }
    return LSTM(hidden_features, **overridden(fastrnns_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def draw_ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> LSTM:
    r"""The LN-LSTM of the DRAW experiment: plain gates, and one norm between c and the output.

    .. math::
       i, f, g, o &= x_t W + h_{t-1} U + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(LN(c_t; \alpha, \beta))

    W starts uniform within :math:`1/\sqrt I`, U within :math:`1/\sqrt H`; all biases start at zero, including the
    forget gate.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.draw_ln_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.norm.recurrent, params.norm.cell.scale.shape
      ((), (8,))

    Notes:
      The paper does not say how to initialize weights; we initialize kernels as the published Torch code does. That
      code draws its biases in the same way, one per kernel; here b starts at zero. It adds epsilon to the deviation,
      outside the root, and accepts a forget bias of -4 that it does not use.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, experiment with DRAW; code
      ryankiros/layer-norm, ``torch_modules/LSTM_LN.lua``.
    """
    defaults: dict[str, Any] = {
        "norm": CellNorms(cell=LayerNorm(epsilon=epsilon)),
        "forget_bias": 0.0,
        "kernel_init": initializers.uniform_fan_in,
        "recurrent_init": initializers.uniform_fan_in,
    }
    return LSTM(hidden_features, **overridden(draw_ln_lstm, defaults, options, epsilon=epsilon))
