"""A cell with one gate and a candidate, with normalizers at its sites.

A skeleton to copy to ``jaxnorm/zoo/cells/<family>/<name>.py``, for cells with several gates side by side.
:class:`GatedCellBase` makes both products of all gates at once, normalizes them and adds the biases; you write the
carry, the weights and ``step``. What differs from cell to cell is marked with ``# 1`` to ``# 6``. Look at ``gru.py``
where the two products are not just added, and at ``zoo/cells/gru/reset_before_gru.py`` for a second product in a step.
"""

import dataclasses
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms

__all__ = ["UpdateGated", "UpdateGatedCarry", "UpdateGatedParams"]

GATES = 2
UPDATE = 0


class UpdateGatedCarry(NamedTuple):  # 1: what the next step needs; one entry is h
    """The state of an update-gated cell: hidden state h."""

    h: Float[Array, "*B H"]


class UpdateGatedParams(NamedTuple):  # 2: the weights; these five go by these names everywhere
    """The weights of an :class:`UpdateGated` cell, with gates in the order z n; vectors hold gate after gate."""

    kernel: Float[Array, "I 2 H"]
    recurrent: Float[Array, "H 2 H"]
    bias: Float[Array, " 2H"] | None
    norm: CellNorms
    carry: UpdateGatedCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class UpdateGated(GatedCellBase):
    r"""Gated recurrent unit without a reset gate, with normalizers.

    .. math::
       z, n &= N_x(x_t W) + N_h(h_{t-1} U) + b \\
       h_t &= (1 - \sigma(z)) \odot h_{t-1} + \sigma(z) \odot \tanh(n)

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``).

    Attributes:
      hidden_features: H.
      norm: one normalizer for both sites, or CellNorms(...) with one for each site that you name.
      gate_groups: sizes of the groups of consecutive gates (order z n) that share statistics.
      update_bias: initial value of b for the gate z, a number or an initializer. None leaves it to ``bias_init``.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are those of all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, or a normalizer does not fit a site.

    Example:
      >>> import jaxnorm
      >>> cell = UpdateGated(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Reference:
      M. Ravanelli, P. Brakel, M. Omologo, Y. Bengio, "Light Gated Recurrent Units for Speech Recognition", 2018,
      arXiv:1803.10225, which has no reset gate either, but a rectified candidate.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1, 1)  # 3: which gates share statistics, unless the user says otherwise
    update_bias: float | Initializer | None = None

    gate_count: ClassVar[int] = GATES  # 4: the number of gates, and where normalizers stand
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[UpdateGatedCarry]] = UpdateGatedCarry

    def init_params(self, key: Key, in_features: int) -> UpdateGatedParams:
        """Draws the weights; ``init`` compiles this."""  # 5: which gate has an initial bias
        return UpdateGatedParams(**self.init_gated(key, in_features, UPDATE, self.update_bias))

    def step(
        self, weights: GateWeights, carry: UpdateGatedCarry, t: StepInput
    ) -> tuple[UpdateGatedCarry, Float[Array, "*B H"], CellNorms]:
        """Computes gate, candidate and output of one step."""  # 6: in the letters of the equation
        (z, n), moments = self.gates(weights, t)
        z = jax.nn.sigmoid(z)
        h = (1 - z) * carry.h.astype(z.dtype) + z * jnp.tanh(n)
        return UpdateGatedCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), moments
