"""Long short-term memory with multiplicative integration and a normalizer at each site."""

import dataclasses
from typing import ClassVar, final

import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells import base
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.lstm import LSTMCarry
from jaxnorm.cells.lstm_derivative import cell_state, output
from jaxnorm.cells.preactivation.gated_base import Gated
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.zoo.cells.multiplicative import integration
from jaxnorm.zoo.cells.multiplicative.integration import IntegrationParams

GATES = 4
FORGET = 1


class MILSTMParams(NamedTuple):
    """The weights of a :class:`MILSTM`; gates in the order i f g o."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    integration: IntegrationParams
    bias: Float[Array, "4 H"] | None
    norm: CellNorms
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MILSTM(Gated):
    r"""LSTM with multiplicative integration, and normalizers.

    .. math::
       w &= N_x(x_t W), \qquad u = N_h(h_{t-1} U) \\
       i, f, g, o &= \alpha \odot w \odot u + \beta_1 \odot u + \beta_2 \odot w + b \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g) \\
       h_t &= \sigma(o) \odot \tanh(N_c(c_t))

    Every gate has its own vectors. The normalizers are :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and
    :math:`N_c` (``cell``): the cell normalizes both sides and then integrates them. The carried c is raw.

    Attributes:
      hidden_features: H.
      norm: one normalizer for all three sites, or CellNorms(...) with one for each site you name.
      gate_groups: sizes of consecutive groups of gates (order i f g o) that share statistics: (4,) all, (1, 1, 1, 1)
        each alone.
      forget_bias: initial value of b for the forget gate, a number or an initializer. It is part of the parameter, not
        added at run time.
      alpha_init: initial value of :math:`\alpha`.
      beta1_init: initial value of :math:`\beta_1`; None omits the term.
      beta2_init: initial value of :math:`\beta_2`; None omits the term. Without both terms this is the paper's
        MI-simple.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
      carry_dtype: dtype of c; None means at least float32.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`).

    Raises:
      ValueError: a size is not positive, there is a forget bias without b, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MILSTM(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      For the initial values and the place of the normalizers see :class:`MIRNN`.

    Reference:
      Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On Multiplicative Integration with Recurrent Neural
      Networks", 2016, arXiv:1606.06630.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    forget_bias: float | Initializer = 1.0
    alpha_init: float = 1.0
    beta1_init: float | None = 0.5
    beta2_init: float | None = 0.5

    gate_count: ClassVar[int] = GATES
    has_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    wide_entries: ClassVar[tuple[str, ...]] = ("c",)
    scales_candidate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget_bias != 0.0 and not self.use_bias:
            raise ValueError(
                f"MILSTM: forget_bias={self.forget_bias} is a value of b, but use_bias is False. Pass forget_bias=0.0."
            )

    def draw(self, key: Key, in_features: int) -> MILSTMParams:
        """Draws the weights; ``init`` compiles this."""
        shape = (GATES, self.hidden_features)
        return MILSTMParams(
            **self.draw_gated(key, in_features, FORGET, self.forget_bias),
            integration=integration.fresh(shape, self.alpha_init, self.beta1_init, self.beta2_init, self.param_dtype),
        )

    def prepare(self, params: MILSTMParams, dtype: DTypeLike | None = None) -> ReadyGates:
        """Prepares all gates, with both sides kept separate; ``more`` holds the vectors of the integration."""
        ready = integration.prepare_gates(params, self.sites, self.gate_groups, dtype or self.dtype)
        return ready._replace(more=integration.prepare(params.integration, params.bias))

    def step(
        self,
        ready: ReadyGates,
        carry: LSTMCarry,
        z_t: Float[Array, "*B GH"],
        a_t: Float[Array, "*B GH"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the integration, the gates, the cell state and the output of one step."""
        s = base.UNKNOWN if stats_t is None else stats_t
        total, measured = integration.total(ready, ready.more, self.sites, self.gate_groups, z_t, a_t, stats_t, where_t)
        i, f, g, o = jnp.split(total, GATES, axis=-1)
        c = cell_state(i, f, g, carry.c.astype(total.dtype), ready.scale_of_candidate(total))
        c_hat, m_cell = base.normalize_features(self.sites.cell, ready.norm.cell, c, s.cell, where_t)
        h = output(o, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)
