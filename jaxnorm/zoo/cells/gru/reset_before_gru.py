"""Gated recurrent unit with the reset gate before the recurrent product, and a normalizer at each site."""

import dataclasses
from typing import Any, ClassVar, Literal, final

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.activation import Gated
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gate_functions import gru_functions
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.groups import join_moments
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.zoo.cells.gru import two_stages

__all__ = ["ResetBeforeGRU", "ResetBeforeGRUParams"]


GATES = 3
UPDATE = 1


class ResetBeforeGRUParams(NamedTuple):
    """The weights of a :class:`ResetBeforeGRU`, with gates in the order r z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class ResetBeforeGRU(Gated, GatedCellBase):
    r"""Gated recurrent unit with normalizers; the reset gate acts before the recurrent product.

    .. math::
       r &= \sigma\bigl(N_s(N_x(x_t W_r) + N_h(h_{t-1} U_r)) + b_r\bigr) \\
       z &= \sigma\bigl(N_s(N_x(x_t W_z) + N_h(h_{t-1} U_z)) + b_z\bigr) \\
       n &= \tanh\bigl(N_s(N_x(x_t W_n) + N_h((r \odot h_{t-1}) U_n)) + b_n\bigr)

    and, by ``update_gate``,

    .. math::
       \text{"keep":}\quad h_t = (1 - z) \odot n + z \odot h_{t-1} \qquad\qquad
       \text{"renew":}\quad h_t = (1 - z) \odot h_{t-1} + z \odot n

    with the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``) and, only if you name it,
    :math:`N_s` (``summed``). Without normalizers this is ``keras.layers.GRU(reset_after=False)`` with "keep", and
    ``haiku.GRU`` with "renew". There is one bias for each gate. A second one, inside the product that r multiplies,
    makes sense only if the reset gate acts after the product (:class:`GRU`).

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input and recurrent, or CellNorms(...) with one for each site you name.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.GRU`.
      activation_fn: the function of the candidate n, for which the equations have tanh.
      gate_groups: sizes of consecutive groups of gates (order r z n) that share statistics: (2, 1) or (1, 1, 1). The
        gate n cannot share its statistics, since its product needs r.
      update_gate: whether z keeps the old state or renews it, as for :class:`GRU`.
      update_bias: initial value of b for the update gate z, a number or an initializer. It is part of the parameter,
        not added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that has
        one. None leaves it to ``bias_init``.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a word is unknown, n shares statistics, or a normalizer does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.ResetBeforeGRU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      The second product must wait for the first, so a step takes longer than a step of :class:`GRU`.

    Reference:
      K. Cho et al., 2014, arXiv:1406.1078; J. Chung et al., 2014, arXiv:1412.3555.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (2, 1)
    update_gate: Literal["keep", "renew"] = "keep"
    update_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    supports_candidate_scale: ClassVar[bool] = True
    supports_gate_masks: ClassVar[bool] = False  # the product of n is made in the step

    def __post_init__(self) -> None:
        super().__post_init__()
        two_stages.check_last_alone("ResetBeforeGRU", self.gate_groups)
        validate.choice("ResetBeforeGRU", "update_gate", self.update_gate, ("keep", "renew"))

    @property
    def stages(self) -> tuple[PreActivation, PreActivation]:
        """The pre-activation objects of r and z, and of n."""
        *first, last = self.gate_groups
        return dataclasses.replace(self.gates, groups=tuple(first)), dataclasses.replace(self.gates, groups=(last,))

    def init_params(self, key: Key, in_features: int) -> ResetBeforeGRUParams:
        """Draws the weights; ``init`` compiles this."""
        return ResetBeforeGRUParams(**self.init_gated(key, in_features, UPDATE, self.update_bias))

    def prepare(self, params: ResetBeforeGRUParams, **options: Any) -> GateWeights:
        """Prepares all gates; ``extra`` holds the weights of n after the input product."""
        return two_stages.split_weights(super().prepare(params, **options), 2 * self.hidden_features)

    def step(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate's product and the output of one step."""
        gates, candidate = self.stages
        t_rz, t_n = two_stages.split_input(t, 2 * self.hidden_features)
        (r, z), m_rz = gates(weights, t_rz)
        h_proj = candidate.project_state(weights.extra, self.gate_fn(r) * carry.h.astype(r.dtype))
        (n,), m_n = candidate(weights.extra, t_n._replace(h_proj=h_proj))
        parts = gru_functions(self.gate_fn, self.activation_fn, self.update_gate)
        h = parts.mixed_state(z, n, carry.h, t.candidate_scale)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), join_moments(m_rz, m_n)
