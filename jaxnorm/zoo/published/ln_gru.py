"""LN-GRUs named by their source, as settings of the one :class:`GRU`.

Compare them on the page "What LN-LSTM means" of the documentation. You can pass every keyword of the cell; it
overrides the preset. A ``norm`` replaces the normalizers of the preset whole, their epsilon too.
"""

from typing import Any

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm.cells import initializers
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.initializers import Joint
from jaxnorm.cells.preset_options import overridden
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.layer_norm import LayerNorm

__all__ = ["dreamer_gru", "haste_ln_gru", "kiros_ln_gru"]


@answers_keywords(foreign_keywords.CELLS)
def kiros_ln_gru(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> GRU:
    r"""The LN-GRU of the code published with the paper: biases inside the norms of x, and z keeps the state.

    .. math::
       r, u &= LN(x_t W + b; \alpha_1, \beta_1) + LN(h_{t-1} U; \alpha_3, \beta_3) \\
       \hat h_t &= \tanh(LN(x_t W_n + b_n; \alpha_2, \beta_2) + \sigma(r) \odot LN(h_{t-1} U_n; \alpha_4, \beta_4)) \\
       h_t &= \sigma(u) \odot h_{t-1} + (1 - \sigma(u)) \odot \hat h_t

    The gates r and u share statistics over their 2H pre-activations; the candidate has its own over H. W starts uniform
    in [-0.1, 0.1] (orthogonal if I = H), U orthogonal for each gate.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`GRU`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.kiros_ln_gru(8)
      >>> cell.bias_at, cell.update_gate
      ('input', 'keep')

    Notes:
      The paper writes 1 - u for u and has no b: ``ln_gru``.

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450; code ryankiros/layer-norm,
      ``layers.py``, ``lngru_layer``.
    """
    defaults: dict[str, Any] = {
        "norm": LayerNorm(epsilon=epsilon),
        "bias_at": "input",
        "kernel_init": initializers.uniform_or_orthogonal,
    }
    return GRU(hidden_features, **overridden(kiros_ln_gru, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def haste_ln_gru(hidden_features: int, *, epsilon: float = 1e-5, **options: Any) -> GRU:
    r"""The LN-GRU of Haste: statistics over all 3H, gains only, two biases after the norms.

    .. math::
       r_x, z_x, n_x &= LN(x_t W; \alpha_1) + b, \qquad r_h, z_h, n_h = LN(h_{t-1} U; \alpha_2) + b_h \\
       n &= \tanh(n_x + \sigma(r_x + r_h) \odot n_h) \\
       h_t &= \sigma(z_x + z_h) \odot h_{t-1} + (1 - \sigma(z_x + z_h)) \odot n

    Kernels start Glorot uniform (W) and orthogonal (U), drawn separately for each gate.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root; a constant in the library.
      **options: further fields of :class:`GRU`.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.haste_ln_gru(8)
      >>> cell.gate_groups, cell.norm.input.use_bias
      ((3,), False)

    Notes:
      In the paper's LN-GRU the candidate has its own statistics. Haste orders the gates z r n.

    Reference:
      Haste, lmnt-com/haste, ``frameworks/pytorch/layer_norm_gru.py``, 2020.
    """
    defaults: dict[str, Any] = {
        "norm": LayerNorm(epsilon=epsilon, use_bias=False),
        "gate_groups": (3,),
        "kernel_init": initializers.glorot_uniform,
    }
    return GRU(hidden_features, **overridden(haste_ln_gru, defaults, options, epsilon=epsilon))


@answers_keywords(foreign_keywords.CELLS)
def dreamer_gru(hidden_features: int, *, epsilon: float = 1e-3, **options: Any) -> GRU:
    r"""The GRU of older Dreamers: one norm of the sum over all gates, and r multiplies the whole candidate.

    .. math::
       r, n, z &= LN(x_t W + h_{t-1} U; \alpha, \beta) \\
       h_t &= \sigma(z - 1) \odot \tanh(\sigma(r) \odot n) + (1 - \sigma(z - 1)) \odot h_{t-1}

    The norm takes statistics over all 3H together; its bias is the only one. W and U start as one Glorot uniform kernel
    of [x, h] for all gates.

    Args:
      hidden_features: H.
      epsilon: added to the variance, inside the root.
      **options: further fields of :class:`GRU`.

    Returns:
      The cell.

    Example:
      >>> import jax, jaxnorm
      >>> params = jaxnorm.zoo.dreamer_gru(2).init(jax.random.key(0), in_features=3)
      >>> params.norm.summed.bias.tolist()  # r z n
      [0.0, 0.0, -1.0, -1.0, 0.0, 0.0]

    Notes:
      The -1 is part of the norm's bias here and a constant there; the function is the same. The code of the second
      Dreamer also has a bias inside the norm, initially zero. For the cell of the current release see
      ``dreamer_v3_gru``.

    Reference:
      D. Hafner, T. Lillicrap, M. Norouzi, J. Ba, "Mastering Atari with Discrete World Models", 2021, arXiv:2010.02193,
      and its code, danijar/dreamerv2, ``dreamerv2/common/nets.py``, ``GRUCell``.
    """
    defaults: dict[str, Any] = {
        "norm": CellNorms(summed=LayerNorm(epsilon=epsilon)),
        "gate_groups": (3,),
        "reset": "candidate",
        "use_bias": False,
        "update_bias": -1.0,
        "update_gate": "renew",
        "kernel_init": Joint(initializers.glorot_uniform),
        "recurrent_init": None,
    }
    return GRU(hidden_features, **overridden(dreamer_gru, defaults, options, epsilon=epsilon))
