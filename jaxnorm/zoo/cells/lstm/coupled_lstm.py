"""Long short-term memory with coupled input and forget gates, and a normalizer at each site."""

import dataclasses
from functools import partial
from typing import ClassVar, final

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.starts import filled
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import lstm_functions
from jaxnorm.cells.initializers import Scaled
from jaxnorm.cells.lstm import LSTMCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms

__all__ = ["CoupledLSTM", "CoupledLSTMParams"]


GATES = 3
INPUT = 0


class CoupledLSTMParams(NamedTuple):
    """The weights of a :class:`CoupledLSTM`, with gates in the order i g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class CoupledLSTM(Gated, GatedCellBase):
    r"""LSTM with coupled input and forget gate (CIFG), and normalizers.

    .. math::
       i, g, o &= N_s\bigl(N_x(x_t W) + N_h(h_{t-1} U)\bigr) + b \\
       c_t &= (1 - \sigma(i)) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(N_c(c_t))

    The input gate has weights, and the forget gate is one minus the input gate. Libraries that parametrize the forget
    gate instead have the same model with the sign of that pre-activation flipped. The normalizers are
    :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``), :math:`N_c` (``cell``) and, only if you name it,
    :math:`N_s` (``summed``). The carried c is raw.

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input, recurrent and cell, or CellNorms(...) with one for each site you name.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.LSTM`.
      activation_fn: the function of the candidate g and of the output, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order i g o) that share statistics: (3,) all, (1, 1, 1) each
        alone.
      forget_bias: initial bias of the forget gate, a number or an initializer: b of the input gate starts at its
        negative; None leaves it to ``bias_init``. If use_bias is False, it initializes the bias of the last norm before
        the gates that has one.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
      carry_dtype: dtype of c; None means at least float32.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.CoupledLSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      K. Greff, R. Srivastava, J. Koutnik, B. Steunebrink, J. Schmidhuber, "LSTM: A Search Space Odyssey", 2017,
      arXiv:1503.04069, the variant CIFG (there with peepholes, which are not here).
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    forget_bias: float | Initializer | None = 1.0

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True

    def init_params(self, key: Key, in_features: int) -> CoupledLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        forget = self.forget_bias
        start = None if forget is None else Scaled(partial(filled, forget), -1.0)
        return CoupledLSTMParams(**self.init_gated(key, in_features, INPUT, start))

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step."""
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        (i, g, o), measured = self.gates(weights, t)
        c = parts.coupled_state(i, g, carry.c, t.candidate_scale)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        h = parts.output(o, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)
