"""Gated recurrent unit with multiplicative integration and a normalizer at each site."""

import dataclasses
from typing import ClassVar, Literal, final

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.gru_derivative import mixed_state
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.gated_base import Gated
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.zoo.cells.gru import two_stages
from jaxnorm.zoo.cells.gru.two_stages import Stage
from jaxnorm.zoo.cells.multiplicative import integration
from jaxnorm.zoo.cells.multiplicative.integration import IntegrationParams, ReadyIntegration

GATES = 3
FIRST = slice(0, 2)
SECOND = slice(2, 3)


class MIGRUParams(NamedTuple):
    """The weights of a :class:`MIGRU`; gates in the order r z n."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    integration: IntegrationParams
    bias: Float[Array, "3 H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class Parts(NamedTuple):
    """The weights of a MIGRU besides those of the gates r and z."""

    candidate: Stage
    by_gates: ReadyIntegration
    by_candidate: ReadyIntegration


@final
@dataclasses.dataclass(frozen=True)
class MIGRU(Gated):
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
      gate_groups: sizes of consecutive groups of gates (order r z n) that share statistics: (2, 1) or (1, 1, 1). The
        gate n cannot share its statistics, since its product needs r.
      update_gate: whether z renews the old state or keeps it.
      alpha_init: initial value of :math:`\alpha`.
      beta1_init: initial value of :math:`\beta_1`; None omits the term.
      beta2_init: initial value of :math:`\beta_2`; None omits the term. Without both terms this is the paper's
        MI-simple.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`).

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
    has_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    scales_candidate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        two_stages.check_last_alone("MIGRU", self.gate_groups)
        _validate.choice("MIGRU", "update_gate", self.update_gate, ("renew", "keep"))

    def draw(self, key: Key, in_features: int) -> MIGRUParams:
        """Draws the weights; ``init`` compiles this."""
        shape = (GATES, self.hidden_features)
        return MIGRUParams(
            **self.draw_gated(key, in_features),
            integration=integration.fresh(shape, self.alpha_init, self.beta1_init, self.beta2_init, self.param_dtype),
        )

    def prepare(self, params: MIGRUParams, dtype: DTypeLike | None = None) -> ReadyGates:
        """Prepares all gates, with both sides kept separate; ``more`` holds the rest, as Parts."""
        first = 2 * self.hidden_features
        ready = integration.prepare_gates(params, self.sites, self.gate_groups, dtype or self.dtype)
        ready = two_stages.two_stages(ready, first)
        by = integration.prepare(params.integration, params.bias)
        by_gates, by_candidate = (
            jax.tree.map(lambda leaf, part=part: leaf[part], by) for part in (slice(0, first), slice(first, None))
        )
        return ready._replace(more=Parts(ready.more, by_gates, by_candidate))

    def step(
        self,
        ready: ReadyGates,
        carry: GRUCarry,
        z_t: Float[Array, "*B GH"],
        a_t: Float[Array, "*B RH"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the candidate's product and the output of one step."""
        norm, (*groups, last), parts = self.sites, self.gate_groups, ready.more
        w_rz, w_n = jnp.split(z_t, [2 * self.hidden_features], axis=-1)
        stats = two_stages.stage_stats(stats_t, FIRST)
        total, m_rz = integration.total(ready, parts.by_gates, norm, tuple(groups), w_rz, a_t, stats, where_t)
        r, z = jnp.split(total, 2, axis=-1)
        h = carry.h.astype(total.dtype)
        ready_n, stats = two_stages.second_stage(ready, parts.candidate), two_stages.stage_stats(stats_t, SECOND)
        a_n = products.matmul(sigmoid(r) * h, ready_n.recurrent)
        n, m_n = integration.total(ready_n, parts.by_candidate, norm, (last,), w_n, a_n, stats, where_t)
        h = mixed_state(-z if self.update_gate == "renew" else z, n, h, ready.scale_of_candidate(h))
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), two_stages.join_stages(m_rz, m_n)
