"""Long short-term memory with gates that see the cell state, and a normalizer at each site."""

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import lstm_functions
from jaxnorm.cells.lstm import FORGET, GATES, LSTMCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.vectors import align
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.core.moments import statistics_dtype

__all__ = ["PeepholeLSTM", "PeepholeLSTMParams"]


PEEPHOLES = 3


class PeepholeLSTMParams(NamedTuple):
    """The weights of a :class:`PeepholeLSTM`, with gates in the order i f g o and peepholes in the order i f o.

    Vectors hold gate after gate.
    """

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    peephole: Float[Array, " 3H"]
    bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class PeepholeLSTM(Gated, GatedCellBase):
    r"""LSTM with diagonal peepholes from the cell state to the gates, and normalizers.

    .. math::
       i', f', g', o' &= N_s\bigl(N_x(x_t W) + N_h(h_{t-1} U)\bigr) + b \\
       i &= \sigma(i' + p_i \odot c_{t-1}), \qquad f = \sigma(f' + p_f \odot c_{t-1}) \\
       c_t &= f \odot c_{t-1} + i \odot \tanh(g') \\
       o &= \sigma(o' + p_o \odot c_t) \\
       h_t &= o \odot \tanh(N_c(c_t))

    The output gate sees the new c. All peepholes see the raw c, and their products are not normalized. The norms are
    :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``), :math:`N_c` (``cell``) and, only if you name it,
    :math:`N_s` (``summed``).

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input, recurrent and cell, or CellNorms(...) with one for each site you name.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.LSTM`.
      activation_fn: the function of the candidate g and of the output, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order i f g o) that share statistics: (4,) all, (1, 1, 1, 1)
        each alone.
      forget_bias: initial value of b for the forget gate, a number or an initializer. It is part of the parameter, not
        added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that has one.
        None leaves it to ``bias_init``.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
      peephole_init: initializer of the peepholes, one row each, (3, H). With zeros a fresh cell equals a plain LSTM.
      carry_dtype: dtype of c; None means at least float32.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.PeepholeLSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      F. Gers, N. Schraudolph, J. Schmidhuber, "Learning Precise Timing with LSTM Recurrent Networks", 2002; in the
      form of A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    forget_bias: float | Initializer | None = 1.0
    peephole_init: Initializer = jax.nn.initializers.zeros

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True

    def init_params(self, key: Key, in_features: int) -> PeepholeLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        gates_key, peephole_key = jax.random.split(key)
        peephole = self.peephole_init(peephole_key, (PEEPHOLES, self.hidden_features), self.param_dtype)
        return PeepholeLSTMParams(
            **self.init_gated(gates_key, in_features, FORGET, self.forget_bias), peephole=peephole.reshape(-1)
        )

    def extra(self, params: PeepholeLSTMParams, dtype: DTypeLike) -> Array:
        """The peepholes, in at least float32."""
        return params.peephole.astype(statistics_dtype(params.peephole.dtype))

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates with their peepholes, the cell state and the output of one step."""
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        (i, f, g, o), measured = self.gates(weights, t)
        p_i, p_f, p_o = (align(p, o) for p in jnp.split(weights.extra, PEEPHOLES))
        before = carry.c.astype(o.dtype)
        c = parts.cell_state(i + p_i * before, f + p_f * before, g, before, t.candidate_scale)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        h = parts.output(o + p_o * c, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)
