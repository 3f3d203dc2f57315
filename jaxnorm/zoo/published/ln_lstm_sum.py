"""LN-LSTMs, named by their source, that normalize the sum of both products.

The norm of the sum is in the loop, and the hoisted input product stays unnormalized: one norm a step instead of two.
The price is that the relative sizes of W and U matter. Compare the cells on the page "What LN-LSTM means" of the
documentation. You can pass every keyword of :class:`LSTM`; it overrides the preset. A ``norm`` replaces the
normalizers of the preset whole, their epsilon too.
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

__all__ = ["axlearn_ln_lstm", "contrib_ln_lstm", "praxis_ln_lstm", "sketch_rnn_ln_lstm", "sonnet_ln_lstm"]


EACH_GATE = (1, 1, 1, 1)


@answers_keywords(foreign_keywords.CELLS)
def contrib_ln_lstm(hidden_features: int, *, epsilon: float = 1e-12, **options: Any) -> LSTM:
    r"""The LN-LSTM of TensorFlow 1 (``LayerNormBasicLSTMCell``): it normalizes each gate of the sum alone, and c.

    .. math::
       v &= LN_k(x_t W_k + h_{t-1} U_k; \alpha_k, \beta_k) \quad \text{for each gate } v_k \text{ of } i, f, g, o \\
       c_t &= LN(\sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g); \alpha_c, \beta_c) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Each gate takes statistics over its H pre-activations. The only biases are those of the norms. W and U start
    as one Glorot uniform kernel of [x, h] for all gates.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.contrib_ln_lstm(2).init(jax.random.key(0), in_features=3)
      >>> params.bias, params.norm.summed.bias.tolist()  # i f g o
      (None, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    Notes:
      The source adds its forget bias of 1 to the normalized gate at run time; here the bias of that norm starts at 1.
      The function is the same. The carried c is normalized.

    Reference:
      TensorFlow 1, ``tensorflow/contrib/rnn/python/ops/rnn_cell.py``; epsilon from ``contrib.layers.layer_norm``.
    """
    norm = LayerNorm(epsilon=epsilon)
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=norm, cell=norm),
        "gate_groups": EACH_GATE,
        "use_bias": False,
        "carried_cell": "normalized",
        "kernel_init": Joint(initializers.glorot_uniform),
        "recurrent_init": None,
    }
    return LSTM(hidden_features, **overridden(contrib_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def sketch_rnn_ln_lstm(hidden_features: int, *, epsilon: float = 1e-3, **options: Any) -> LSTM:
    r"""The LN-LSTM of sketch-rnn (Ha et al.): each gate of the sum alone, c normalized only for the output.

    .. math::
       v &= LN_k(x_t W_k + h_{t-1} U_k; \alpha_k, \beta_k) \quad \text{for each gate } v_k \text{ of } i, f, g, o \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(LN(c_t; \alpha_c, \beta_c))

    Each gate takes statistics over its H pre-activations. W starts Glorot uniform, all gates in one matrix, U
    orthogonal for each gate; the bias of the norm starts at 1 for the forget gate.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`; ``use_bias=True, bias_at="input"`` puts a bias inside the norms, as
        the HyperLSTM of the same authors has.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.sketch_rnn_ln_lstm(8)
      >>> cell.gate_groups, cell.carried_cell
      ((1, 1, 1, 1), 'raw')

    Notes:
      The source adds the forget bias at run time; the function is the same. Its recurrent dropout is not part of the
      cell.

    Reference:
      D. Ha, A. Dai, Q. Le, "HyperNetworks", 2016, arXiv:1609.09106; code magenta,
      ``magenta/models/sketch_rnn/rnn.py``, ``LayerNormLSTMCell``.
    """
    norm = LayerNorm(epsilon=epsilon)
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=norm, cell=norm),
        "gate_groups": EACH_GATE,
        "use_bias": False,
        "kernel_init": Joint(initializers.glorot_uniform),
    }
    return LSTM(hidden_features, **overridden(sketch_rnn_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def sonnet_ln_lstm(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> LSTM:
    r"""The LN-LSTM of Sonnet 1: one norm over all gates of the sum, and none on c.

    .. math::
       i, f, g, o &= LN(x_t W + h_{t-1} U; \alpha, \beta) + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    The norm takes statistics over all 4H together. W and U start as one kernel of [x, h], truncated normal with
    deviation :math:`1/\sqrt{I + H}`; the forget bias starts at 1.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.sonnet_ln_lstm(8).init(jax.random.key(0), in_features=3)
      >>> params.norm.summed.scale.shape, params.norm.cell
      ((32,), ())

    Notes:
      The source adds its forget bias at run time and draws b like the kernel; here b starts at 0, and at 1 for the
      forget gate.

    Reference:
      Sonnet 1, ``sonnet/python/modules/gated_rnn.py``, ``LSTM(use_layer_norm=True)``, 2017.
    """
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=LayerNorm(epsilon=epsilon)),
        "kernel_init": initializers.truncated_fan_in,
        "recurrent_init": None,
    }
    return LSTM(hidden_features, **overridden(sonnet_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def praxis_ln_lstm(hidden_features: int, *, epsilon: float = 1e-8, **options: Any) -> LSTM:
    r"""The LN-LSTM of Praxis (and of Lingvo): each gate of the sum alone, gains only, one bias after them, c within 10.

    .. math::
       v &= LN_k(x_t W_k + h_{t-1} U_k; \alpha_k) + b_k \quad \text{for each gate } v_k \text{ of } i, f, g, o \\
       c_t &= \operatorname{clip}(\sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g), -10, 10) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Each gate takes statistics over its H pre-activations. All biases start at zero, including the forget gate;
    W and U start as one Glorot uniform kernel of [x, h] with all gates.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`; ``cell_clip=None`` does not clip.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.praxis_ln_lstm(8)
      >>> cell.cell_clip, cell.norm.summed.use_bias
      (10.0, False)

    Reference:
      Praxis, ``praxis/layers/rnn_cell.py``, ``LayerNormalizedLstmCellSimple``, 2022.
    """
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=LayerNorm(epsilon=epsilon, use_bias=False)),
        "gate_groups": EACH_GATE,
        "forget_bias": 0.0,
        "cell_clip": 10.0,
        "kernel_init": Joint(initializers.glorot_uniform),
        "recurrent_init": None,
    }
    return LSTM(hidden_features, **overridden(praxis_ln_lstm, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def axlearn_ln_lstm(hidden_features: int, *, epsilon: float = 1e-8, **options: Any) -> LSTM:
    r"""The LSTM of AXLearn with its layer normalization: each gate of the sum alone, no biases but the norms'.

    .. math::
       v &= LN_k(x_t W_k + h_{t-1} U_k; \alpha_k, \beta_k) \quad \text{for each gate } v_k \text{ of } i, f, g, o \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(c_t)

    Each gate takes statistics over its H pre-activations. There is no forget bias. W and U start as one Glorot
    uniform kernel of [x, h] with all gates.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`LSTM`; ``cell_clip`` is the source's ``max_cell_value``.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.axlearn_ln_lstm(8)
      >>> cell.use_bias, cell.cell_clip, cell.forget_bias
      (False, None, 0.0)

    Notes:
      The source has one gain and one bias (H) for all four gates; here each gate has its own, and they start equal. In
      the source the norm and the initializer are configurable; the initializer here is the source's default.

    Reference:
      AXLearn, ``axlearn/common/rnn.py``, ``LSTMCell``, 2023.
    """
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=LayerNorm(epsilon=epsilon)),
        "gate_groups": EACH_GATE,
        "use_bias": False,
        "forget_bias": 0.0,
        "kernel_init": Joint(initializers.glorot_uniform),
        "recurrent_init": None,
    }
    return LSTM(hidden_features, **overridden(axlearn_ln_lstm, defaults, options, epsilon=epsilon))
