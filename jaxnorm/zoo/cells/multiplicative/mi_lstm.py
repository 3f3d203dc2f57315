"""Long short-term memory with multiplicative integration and a normalizer at each site."""

import dataclasses
from typing import ClassVar, final

import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import lstm_functions
from jaxnorm.cells.lstm import FORGET, GATES, LSTMCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.multiplicative.integration import (
    IntegrationParams,
    IntegrationWeights,
    init_integration,
    integrate,
    prepare_integration,
)

__all__ = ["MILSTM", "MILSTMParams"]


class MILSTMParams(NamedTuple):
    """The weights of a :class:`MILSTM`, with gates in the order i f g o; vectors hold gate after gate."""

    kernel: Float[Array, "I 4 H"]
    recurrent: Float[Array, "H 4 H"]
    integration: IntegrationParams
    bias: Float[Array, " 4H"] | None
    norm: CellNorms
    carry: LSTMCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MILSTM(Gated, GatedCellBase):
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
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.LSTM`.
      activation_fn: the function of the candidate g and of the output, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order i f g o) that share statistics: (4,) all, (1, 1, 1, 1)
        each alone.
      forget_bias: initial value of b for the forget gate, a number or an initializer. It is part of the parameter, not
        added at run time. None leaves it to ``bias_init``.
      alpha_init: initial value of :math:`\alpha`.
      beta1_init: initial value of :math:`\beta_1`; None omits the term.
      beta2_init: initial value of :math:`\beta_2`; None omits the term. Without both terms this is the paper's
        MI-simple.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
      carry_dtype: dtype of c; None means at least float32.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

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
    forget_bias: float | Initializer | None = 1.0
    alpha_init: float = 1.0
    beta1_init: float | None = 0.5
    beta2_init: float | None = 0.5

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.forget_bias not in (None, 0.0) and not self.use_bias:
            raise ValueError(
                f"MILSTM: forget_bias={self.forget_bias} is a value of b, but use_bias is False. Pass forget_bias=0.0."
            )

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates; both sides stay apart."""
        return PreActivation(self.sites, self.gate_groups, separate=True, caller="MILSTM")

    def init_params(self, key: Key, in_features: int) -> MILSTMParams:
        """Draws the weights; ``init`` compiles this."""
        features, dtype = GATES * self.hidden_features, self.param_dtype
        return MILSTMParams(
            **self.init_gated(key, in_features, FORGET, self.forget_bias),
            integration=init_integration(features, self.alpha_init, self.beta1_init, self.beta2_init, dtype),
        )

    def biases(self, params: MILSTMParams) -> Biases:
        """The bias b enters with the integration."""
        return Biases()

    def extra(self, params: MILSTMParams, dtype: DTypeLike) -> IntegrationWeights:
        """The vectors of the integration."""
        return prepare_integration(params.integration, params.bias)

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the integration, the gates, the cell state and the output of one step."""
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        x, u, measured = self.gates.sides(weights, t)
        i, f, g, o = jnp.split(integrate(x, u, weights.extra), GATES, axis=-1)
        c = parts.cell_state(i, f, g, carry.c, t.candidate_scale)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        h = parts.output(o, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)
