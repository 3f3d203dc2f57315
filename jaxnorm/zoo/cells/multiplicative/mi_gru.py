"""Gated recurrent unit with multiplicative integration and a normalizer at each site."""

import dataclasses
from typing import Any, ClassVar, Literal, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike, Float
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import gru_functions
from jaxnorm.cells.gru import GATES, GRUCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.groups import cut, join_moments
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.gru import two_stages
from jaxnorm.zoo.cells.multiplicative.integration import (
    IntegrationParams,
    IntegrationWeights,
    init_integration,
    integrate,
    prepare_integration,
)

__all__ = ["MIGRU", "MIGRUParams"]


class MIGRUParams(NamedTuple):
    """The weights of a :class:`MIGRU`, with gates in the order r z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    integration: IntegrationParams
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class Parts(NamedTuple):
    """The weights of a MIGRU besides those of the gates r and z before their integration."""

    candidate: GateWeights
    """Those of the gate n; ``extra`` holds the vectors of its integration."""
    integration: IntegrationWeights
    """The vectors of the gates r and z."""


@final
@dataclasses.dataclass(frozen=True)
class MIGRU(Gated, GatedCellBase):
    r"""Gated recurrent unit with multiplicative integration, and normalizers; the reset gate acts before the product.

    With :math:`M(w, u) = \alpha \odot w \odot u + \beta_1 \odot u + \beta_2 \odot w + b`, where each gate has its
    own vectors,

    .. math::
       r &= \sigma\bigl(M_r(N_x(x_t W_r), N_h(h_{t-1} U_r))\bigr) \\
       z &= \sigma\bigl(M_z(N_x(x_t W_z), N_h(h_{t-1} U_z))\bigr) \\
       n &= \tanh\bigl(M_n(N_x(x_t W_n), N_h((r \odot h_{t-1}) U_n))\bigr)

    and, by ``update_gate``,

    .. math::
       \text{"renew":}\quad h_t = (1 - z) \odot h_{t-1} + z \odot n \qquad\qquad
       \text{"keep":}\quad h_t = (1 - z) \odot n + z \odot h_{t-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``): the cell normalizes both sides
    and then integrates them.

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.GRU`.
      activation_fn: the function of the candidate n, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order r z n) that share statistics: (2, 1) or (1, 1, 1). The
        gate n cannot share its statistics, since its product needs r.
      update_gate: whether z renews the old state or keeps it.
      alpha_init: initial value of :math:`\alpha`.
      beta1_init: initial value of :math:`\beta_1`; None omits the term.
      beta2_init: initial value of :math:`\beta_2`; None omits the term. Without both terms this is the paper's
        MI-simple.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a word is unknown, n shares statistics, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MIGRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      For the initial values and the place of the normalizers see :class:`MIRNN`. We did not check the direction of z
      against the paper; the other direction is the same model with the sign of the pre-activation of z flipped.

    Reference:
      Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov, "On Multiplicative Integration with Recurrent Neural
      Networks", 2016, arXiv:1606.06630.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (2, 1)
    update_gate: Literal["renew", "keep"] = "renew"
    alpha_init: float = 1.0
    beta1_init: float | None = 0.5
    beta2_init: float | None = 0.5

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    supports_candidate_scale: ClassVar[bool] = True
    supports_gate_masks: ClassVar[bool] = False  # the product of n is made in the step

    def __post_init__(self) -> None:
        super().__post_init__()
        two_stages.check_last_alone("MIGRU", self.gate_groups)
        validate.choice("MIGRU", "update_gate", self.update_gate, ("renew", "keep"))

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates; both sides stay apart."""
        return PreActivation(self.sites, self.gate_groups, separate=True, caller="MIGRU")

    @property
    def stages(self) -> tuple[PreActivation, PreActivation]:
        """The pre-activation objects of r and z, and of n."""
        *first, last = self.gate_groups
        return dataclasses.replace(self.gates, groups=tuple(first)), dataclasses.replace(self.gates, groups=(last,))

    def init_params(self, key: Key, in_features: int) -> MIGRUParams:
        """Draws the weights; ``init`` compiles this."""
        features, dtype = GATES * self.hidden_features, self.param_dtype
        return MIGRUParams(
            **self.init_gated(key, in_features),
            integration=init_integration(features, self.alpha_init, self.beta1_init, self.beta2_init, dtype),
        )

    def biases(self, params: MIGRUParams) -> Biases:
        """The bias b enters with the integration."""
        return Biases()

    def extra(self, params: MIGRUParams, dtype: DTypeLike) -> IntegrationWeights:
        """The vectors of the integration."""
        return prepare_integration(params.integration, params.bias)

    def prepare(self, params: MIGRUParams, **options: Any) -> GateWeights:
        """Prepares all gates in two stages; ``extra`` holds the rest, as Parts."""
        first = 2 * self.hidden_features
        weights = super().prepare(params, **options)
        stages = two_stages.split_weights(weights, first)
        return stages._replace(extra=Parts(stages.extra, cut(weights.extra, slice(0, first))))

    def step(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate's product and the output of one step."""
        gates, candidate = self.stages
        weights_n, vectors = weights.extra
        t_rz, t_n = two_stages.split_input(t, 2 * self.hidden_features)
        x, u, m_rz = gates.sides(weights, t_rz)
        r, z = jnp.split(integrate(x, u, vectors), 2, axis=-1)
        h = carry.h.astype(r.dtype)
        h_proj = candidate.project_state(weights_n, self.gate_fn(r) * h)
        x, u, m_n = candidate.sides(weights_n, t_n._replace(h_proj=h_proj))
        n = integrate(x, u, weights_n.extra)
        parts = gru_functions(self.gate_fn, self.activation_fn, self.update_gate)
        h = parts.mixed_state(z, n, h, t.candidate_scale)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), join_moments(m_rz, m_n)
