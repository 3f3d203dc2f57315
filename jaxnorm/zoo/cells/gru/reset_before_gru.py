"""Gated recurrent unit with the reset gate before the recurrent product, and a normalizer at each site."""

import dataclasses
from typing import ClassVar, Literal, final

import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.gru_derivative import mixed_state
from jaxnorm.cells.preactivation import gates, products
from jaxnorm.cells.preactivation.gated_base import Gated
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.zoo.cells.gru import two_stages

GATES = 3
UPDATE = 1
FIRST = slice(0, 2)
SECOND = slice(2, 3)


class ResetBeforeGRUParams(NamedTuple):
    """The weights of a :class:`ResetBeforeGRU`; gates in the order r z n."""

    kernel: Float[Array, "I 3 H"]
    recurrent: Float[Array, "H 3 H"]
    bias: Float[Array, "3 H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class ResetBeforeGRU(Gated):
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
      gate_groups: sizes of consecutive groups of gates (order r z n) that share statistics: (2, 1) or (1, 1, 1). The
        gate n cannot share its statistics, since its product needs r.
      update_gate: whether z keeps the old state or renews it, as for :class:`GRU`.
      update_bias: initial value of b for the update gate z, a number or an initializer. It is part of the parameter,
        not added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that has
        one.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`).

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
    update_bias: float | Initializer = 0.0

    gate_count: ClassVar[int] = GATES
    has_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    more_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    scales_candidate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        two_stages.check_last_alone("ResetBeforeGRU", self.gate_groups)
        _validate.choice("ResetBeforeGRU", "update_gate", self.update_gate, ("keep", "renew"))

    def draw(self, key: Key, in_features: int) -> ResetBeforeGRUParams:
        """Draws the weights; ``init`` compiles this."""
        return ResetBeforeGRUParams(**self.draw_gated(key, in_features, UPDATE, self.update_bias))

    def prepare(self, params: ResetBeforeGRUParams, dtype: DTypeLike | None = None) -> ReadyGates:
        """Prepares all gates; ``more`` holds the candidate's weights after the input product."""
        return two_stages.two_stages(super().prepare(params, dtype), 2 * self.hidden_features)

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
        norm, (*groups, last) = self.sites, self.gate_groups
        z_rz, z_n = jnp.split(z_t, [2 * self.hidden_features], axis=-1)
        stats = two_stages.stage_stats(stats_t, FIRST)
        total, m_rz = gates.total(ready, norm, tuple(groups), z_rz, a_t, stats, where_t)
        r, z = jnp.split(total, 2, axis=-1)
        h = carry.h.astype(total.dtype)
        ready_n, stats = two_stages.second_stage(ready, ready.more), two_stages.stage_stats(stats_t, SECOND)
        a_n = products.matmul(sigmoid(r) * h, ready_n.recurrent)
        n, m_n = gates.total(ready_n, norm, (last,), z_n, a_n, stats, where_t)
        h = mixed_state(z if self.update_gate == "keep" else -z, n, h, ready.scale_of_candidate(h))
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), two_stages.join_stages(m_rz, m_n)
