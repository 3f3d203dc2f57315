"""The minimal gated unit: one gate both resets and renews the state; with a normalizer at each site."""

import dataclasses
from typing import Any, ClassVar, Literal, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.activation import Gated
from jaxnorm.cells.gates.functions import gru_functions
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.groups import join_moments
from jaxnorm.cells.preactivation.layout import with_gate
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.identity import Identity
from jaxnorm.zoo.cells.gru import two_stages

__all__ = ["MGU", "MGUParams", "mgu"]

GATES = 2
FORGET, CANDIDATE = 0, 1


class MGUParams(NamedTuple):
    """The weights of an :class:`MGU`, with gates in the order f n; vectors hold gate after gate."""

    kernel: Float[Array, "I 2 H"]
    recurrent: Float[Array, "H 2 H"]
    bias: Float[Array, " 2H"] | None
    recurrent_bias: Float[Array, " H"] | None
    """Of the candidate; only with ``reset="recurrent"``."""
    norm: CellNorms
    carry: GRUCarry | None = None


@final
@dataclasses.dataclass(frozen=True)
class MGU(Gated, GatedCellBase):
    r"""Minimal gated unit with normalizers: a GRU whose reset gate and update gate are the same.

    .. math::
       f &= \sigma\bigl(N_x(x_t W_f) + N_h(h_{t-1} U_f) + b_f\bigr) \\
       \text{reset "recurrent":}\quad n &= \tanh\bigl(N_x(x_t W_n) + b_n + f \odot (N_h(h_{t-1} U_n) + b_h)\bigr) \\
       \text{"state":}\quad n &= \tanh\bigl(N_x(x_t W_n) + N_h((f \odot h_{t-1}) U_n) + b_n\bigr) \\
       \text{"none":}\quad n &= \tanh\bigl(N_x(x_t W_n) + N_h(h_{t-1} U_n) + b_n\bigr)

    and, by ``update_gate``,

    .. math::
       \text{"keep":}\quad h_t = (1 - f) \odot n + f \odot h_{t-1} \qquad\qquad
       \text{"renew":}\quad h_t = (1 - f) \odot h_{t-1} + f \odot n

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_h` (``recurrent``). Where f does not multiply the
    recurrent part alone ("state", "none") you can normalize the sum of both products, too (:math:`N_s`, site
    ``summed``, only if you name it). The paper has "state" and "renew" (:func:`jaxnorm.zoo.mgu`). The defaults are
    those of ``flax.linen.MGUCell``; its ``reset_gate=False`` is "none". Since f also resets, "keep" and "renew" are
    different models, except with "none".

    Attributes:
      hidden_features: H.
      norm: one normalizer for the sites input and recurrent, or CellNorms(...) with one for each site that you name.
      gate_groups: sizes of consecutive groups of gates (order f n) that share statistics: (1, 1) each alone, (2,) both.
        With ``reset="state"`` n cannot share its statistics, since its product needs f.
      reset: what f multiplies in the candidate: its recurrent part, the state before the product, or nothing.
      update_gate: whether f keeps the old state or renews it.
      gate_fn: the function :math:`\sigma` of the gate, see :class:`jaxnorm.GRU`.
      activation_fn: the function of the candidate n, for which the equations have tanh.
      use_bias: whether there are biases b and b_h.
      forget_bias: initial value of b for the gate f, a number or an initializer. It is part of the parameter and not
        added at run time. If use_bias is False, it initializes the bias of the last norm before the gates that has one.
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a word is unknown, n shares statistics where it cannot, or a normalizer does
        not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.MGU(2, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3))).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      With ``reset="state"`` the product of n must wait for f, so a step takes longer.

    Reference:
      G.-B. Zhou, J. Wu, C.-L. Zhang, Z.-H. Zhou, "Minimal Gated Unit for Recurrent Neural Networks", 2016,
      arXiv:1603.09420.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1, 1)
    reset: Literal["recurrent", "state", "none"] = "recurrent"
    update_gate: Literal["keep", "renew"] = "keep"
    forget_bias: float | Initializer | None = 1.0

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    supports_candidate_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.choice("MGU", "reset", self.reset, ("recurrent", "state", "none"))
        validate.choice("MGU", "update_gate", self.update_gate, ("keep", "renew"))
        if self.reset == "state":
            two_stages.check_last_alone("MGU", self.gate_groups)
        if self.reset == "recurrent" and self.sites.summed != Identity():
            raise ValueError(
                "MGU: norm.summed needs the sum of both products, but the gate multiplies one of them. "
                "Pass reset='state' or reset='none', or leave the site out."
            )

    @property
    def supports_gate_masks(self) -> bool:
        """Each gate may see its inputs and the state under a mask of its own, unless a step makes the product of n."""
        return self.reset != "state"

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object; with the gate on the recurrent part, both sides of n stay apart."""
        return dataclasses.replace(super().gates, separate=self.reset == "recurrent", added_gates=GATES - 1)

    def init_params(self, key: Key, in_features: int) -> MGUParams:
        """Draws the weights; ``init`` compiles this."""
        each_side = self.use_bias and self.reset == "recurrent"
        return MGUParams(
            recurrent_bias=self.second_bias(key)[self.hidden_features :] if each_side else None,
            **self.init_gated(key, in_features, FORGET, self.forget_bias),
        )

    def biases(self, params: MGUParams) -> Biases:
        """The bias b enters after all norms, b_h after the recurrent norm of the candidate."""
        of_candidate = params.recurrent_bias
        if of_candidate is None:
            return Biases(end=params.bias)
        both = with_gate(jnp.zeros((GATES * self.hidden_features,), of_candidate.dtype), CANDIDATE, of_candidate)
        return Biases(end=params.bias, recurrent_out=both)

    def prepare(self, params: MGUParams, **options: Any) -> GateWeights:
        """Prepares both gates; with ``reset="state"``, ``extra`` holds the weights of n after the input product."""
        weights = super().prepare(params, **options)
        return two_stages.split_weights(weights, self.hidden_features) if self.reset == "state" else weights

    def step(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[GRUCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gate, the candidate and the output of one step."""
        parts = gru_functions(self.gate_fn, self.activation_fn, self.update_gate)
        if self.reset == "recurrent":
            x, h, measured = self.gates.sides(weights, t)
            f_x, n_x = jnp.split(x, GATES, axis=-1)
            f_h, n_h = jnp.split(h, GATES, axis=-1)
            f = f_x + f_h
            h = parts.new_state(f, f, n_x, n_h, carry.h, t.candidate_scale)
        else:
            f, n, measured = self._gate_and_candidate(weights, carry, t)
            h = parts.mixed_state(f, n, carry.h, t.candidate_scale)
        return GRUCarry(h.astype(carry.h.dtype)), h.astype(weights.dtype), measured

    def _gate_and_candidate(
        self, weights: GateWeights, carry: GRUCarry, t: StepInput
    ) -> tuple[jax.Array, jax.Array, CellNorms]:
        """Computes both pre-activations, where each is one sum."""
        if self.reset == "none":
            (f, n), measured = self.gates(weights, t)
            return f, n, measured
        alone = dataclasses.replace(self.gates, groups=(1,))
        t_f, t_n = two_stages.split_input(t, self.hidden_features)
        (f,), m_f = alone(weights, t_f)
        h_proj = alone.project_state(weights.extra, self.gate_fn(f) * carry.h.astype(f.dtype))
        (n,), m_n = alone(weights.extra, t_n._replace(h_proj=h_proj))
        return f, n, join_moments(m_f, m_n)


def mgu(hidden_features: int, **options: Any) -> MGU:
    r"""The minimal gated unit of the paper: its gate resets the state before the product, and renews it.

    .. math::
       f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) \\
       \tilde h_t &= \tanh\bigl(x_t W_h + (f_t \odot h_{t-1}) U_h + b_h\bigr) \\
       h_t &= (1 - f_t) \odot h_{t-1} + f_t \odot \tilde h_t

    Kernels start as in :func:`jaxnorm.gru`, drawn separately for each gate: W truncated normal with variance 1 / I, U
    orthogonal. Biases start at zero. The paper introduces the cell, not this initialization.

    Args:
      hidden_features: H.
      **options: further fields of :class:`MGU`, ``norm=LayerNorm()`` for example.

    Returns:
      The cell.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.zoo.mgu(8, norm=jaxnorm.LayerNorm())
      >>> cell.reset, cell.update_gate
      ('state', 'renew')

    Reference:
      G.-B. Zhou, J. Wu, C.-L. Zhang, Z.-H. Zhou, "Minimal Gated Unit for Recurrent Neural Networks", 2016,
      arXiv:1603.09420.
    """
    defaults: dict[str, Any] = {"reset": "state", "update_gate": "renew", "forget_bias": 0.0}
    return MGU(hidden_features, **(defaults | options))
