"""The recurrent highway network: several highway layers within one step, each with its own normalizer."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, DTypeLike, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.gru_derivative import mixed_state
from jaxnorm.cells.preactivation.gated_base import GatedCellBase, shift_last_norm
from jaxnorm.cells.preactivation.groups import cut, join_moments
from jaxnorm.cells.preactivation.matmul import scaled
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateParams, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.wrappers import randomness
from jaxnorm.norms.identity import Identity
from jaxnorm.zoo.cells.gru.two_stages import cut_stats

__all__ = ["RecurrentHighway", "RecurrentHighwayCarry", "RecurrentHighwayParams"]


GATES = 2
TRANSFORM = 1


class RecurrentHighwayCarry(NamedTuple):
    """The state of a recurrent highway network: s of the last micro-step, named h."""

    h: Float[Array, "*B H"]


class RecurrentHighwayParams(NamedTuple):
    """The weights of a :class:`RecurrentHighway` with L micro-steps, and gates in the order h t.

    Vectors hold micro-step after micro-step, and in each gate after gate.
    """

    kernel: Float[Array, "I 2 H"]
    recurrent: Float[Array, "L H 2 H"]
    bias: Float[Array, " L2H"] | None
    norm: CellNorms
    carry: RecurrentHighwayCarry | None = None


class MicroSteps(NamedTuple):
    """The weights of the micro-steps after the first, and the masks."""

    later: tuple[GateWeights, ...]
    input_mask: Float[Array, "*B I"] | None
    """Zeros at dropped inputs, the factor that scales up the others elsewhere; None masks nothing."""
    state_mask: Float[Array, "*B H"] | None


@final
@dataclasses.dataclass(frozen=True)
class RecurrentHighway(GatedCellBase):
    r"""Recurrent highway network (RHN) with coupled gates, variational dropout and normalizers.

    L micro-steps lead from :math:`s_0`, the state before the step, to :math:`s_L`, the output and new state. The first
    micro-step also sees the input:

    .. math::
       h_1, t_1 &= N_x((x_t \odot m_x) W) + N_1((s_0 \odot m_s) U_1) + b_1 \\
       h_l, t_l &= N_l((s_{l-1} \odot m_s) U_l) + b_l, \qquad l = 2, \dots, L \\
       s_l &= \bigl(\tanh(h_l) - s_{l-1}\bigr) \odot \sigma(t_l) + s_{l-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_l` (``recurrent``; each micro-step has its own
    weights and statistics, one after the other). Variational dropout draws its masks once a sequence
    for each unit of each example; both gates and all micro-steps share :math:`m_s`.

    .. math:: m_x \sim \text{Bernoulli}(1 - p_x) / (1 - p_x), \qquad m_s \sim \text{Bernoulli}(1 - p_s) / (1 - p_s)

    Attributes:
      hidden_features: H.
      depth: L, the number of micro-steps.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      gate_groups: sizes of consecutive groups of gates (order h t) that share statistics: (2,) both, (1, 1) each alone.
      transform_bias: initial value of b for the gate t of every micro-step, part of the parameter: -2 in the published
        word models, -4 in the character models. If use_bias is False, it initializes the bias of the recurrent norms,
        if they have one. None leaves it to ``bias_init``.
      recurrent_init: initializer of U. It draws each micro-step and gate (H, H) separately; a tuple gives one per gate.
      rate: :math:`p_s`, the probability of dropping a unit of the state, in [0, 1].
      input_rate: :math:`p_x`, the probability of dropping an input.
      deterministic: whether to omit masks, as in evaluation; see :func:`jaxnorm.deterministic`.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, a rate is not in [0, 1], or a normalizer does not fit a site. In ``prepare``:
        it must draw masks and has no key.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.RecurrentHighway(2, 3, norm=jaxnorm.LayerNorm(), rate=0.25)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 3)), key=jax.random.key(1)).outputs.shape  # T, B, H
      (5, 1, 2)

    Notes:
      The published programs use one mask for both gates, as here (TensorFlow), or one mask per gate (Torch); they draw
      all kernels between -0.04 and 0.04. The paper has no normalizers. A sequence is one call of
      :func:`jaxnorm.unroll`: a reset does not draw new masks.

    Reference:
      J. Zilly, R. Srivastava, J. Koutnik, J. Schmidhuber, "Recurrent Highway Networks", 2016, arXiv:1607.03474; the
      dropout is that of Y. Gal, Z. Ghahramani, 2016, arXiv:1512.05287.
    """

    depth: int
    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (GATES,)
    transform_bias: float | Initializer | None = -2.0
    rate: float = 0.0
    input_rate: float = 0.0
    deterministic: bool = False

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0, "recurrent": 1})
    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[RecurrentHighwayCarry]] = RecurrentHighwayCarry
    supports_gate_masks: ClassVar[bool] = False  # later micro-steps make their products in the step

    def __post_init__(self) -> None:
        validate.positive_int("RecurrentHighway", "depth", self.depth)
        super().__post_init__()
        for name in ("rate", "input_rate"):
            validate.in_range("RecurrentHighway", name, getattr(self, name), 0.0, 1.0)

    @property
    def needs_key(self) -> bool:
        """Whether the cell needs a key for masks."""
        return not self.deterministic and max(self.rate, self.input_rate) > 0.0

    @property
    def later_gates(self) -> PreActivation:
        """The pre-activation object of a micro-step after the first, which sees only the state."""
        return PreActivation(self.sites._replace(input=Identity()), self.gate_groups, separate=True)

    def site_shapes(self) -> CellNorms:
        """The features at each site; at the recurrent one, those of all micro-steps."""
        shapes = super().site_shapes()
        return shapes._replace(recurrent=(self.depth * GATES * self.hidden_features,))

    def micro_step(self, layer: int) -> slice:
        """The features of a micro-step in a flat vector."""
        size = GATES * self.hidden_features
        return slice(layer * size, (layer + 1) * size)

    def init_params(self, key: Key, in_features: int) -> RecurrentHighwayParams:
        """Draws the weights; ``init`` compiles this."""
        hidden = self.hidden_features
        input_key, *keys = jax.random.split(key, 1 + self.depth)
        bias = jnp.concatenate([self.start_bias(key, TRANSFORM, self.transform_bias) for key in keys])
        recurrent = [self.init_gates("recurrent_init", self.recurrent_init, key, (hidden, hidden)) for key in keys]
        norm, recurrent_norms = self.fresh_norms(key), self.sites._replace(input=Identity())
        return RecurrentHighwayParams(
            kernel=self.init_gates("kernel_init", self.kernel_init, input_key, (in_features, hidden)),
            recurrent=jnp.stack(recurrent),
            bias=bias if self.use_bias else None,
            norm=norm if self.use_bias else shift_last_norm(recurrent_norms, norm, bias),
            carry=self.fresh_carry(),
        )

    def prepare(  # type: ignore[override]  # no gate masks
        self,
        params: RecurrentHighwayParams,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> GateWeights:
        """Prepares the gates of each micro-step, and draws the masks; ``extra`` holds MicroSteps."""
        dtype = dtype or self.dtype

        def recurrent_side(layer: int) -> tuple[Array, Any, Array | None]:
            part = self.micro_step(layer)
            return params.recurrent[layer], cut(params.norm.recurrent, part), cut(params.bias, part)

        def later(layer: int) -> GateWeights:
            recurrent, norm, bias = recurrent_side(layer)
            own = GateParams(None, recurrent, CellNorms(recurrent=norm))
            return self.later_gates.prepare(own, Biases(recurrent_out=bias), dtype)

        recurrent, norm, bias = recurrent_side(0)
        own = GateParams(params.kernel, recurrent, params.norm._replace(recurrent=norm))
        masks = self._draw_masks(key, batch_shape, params.kernel.shape[0])
        steps = MicroSteps(tuple(map(later, range(1, self.depth))), *masks)
        return self.gates.prepare(own, Biases(end=bias), dtype)._replace(extra=steps)

    def _draw_masks(
        self, key: Key | None, batch_shape: tuple[int, ...], in_features: int
    ) -> tuple[Array | None, Array | None]:
        if not self.needs_key:
            return None, None
        if key is None:
            raise ValueError(
                f"RecurrentHighway: rate={self.rate}, input_rate={self.input_rate} needs randomness, but key is None. "
                "Pass key=jax.random.key(...), or jaxnorm.deterministic(cell) for evaluation."
            )

        def draw(key: Key, rate: float, features: int) -> Array | None:
            return None if rate == 0.0 else randomness.draw_factors(key, rate, (*batch_shape, features))

        input_key, state_key = jax.random.split(key)
        return draw(input_key, self.input_rate, in_features), draw(state_key, self.rate, self.hidden_features)

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B GH"]:
        """Computes the products of the masked inputs of all steps, in at least float32."""
        return super().project_inputs(weights, seen(xs, weights.extra.input_mask))

    def project_state(self, weights: GateWeights, carry: RecurrentHighwayCarry) -> Float[Array, "*B GH"]:
        """Computes the product of the first micro-step, in at least float32."""
        return self.gates.project_state(weights, seen(carry.h, weights.extra.state_mask))

    def step(
        self, weights: GateWeights, carry: RecurrentHighwayCarry, t: StepInput
    ) -> tuple[RecurrentHighwayCarry, Float[Array, "*B H"], CellNorms]:
        """Runs all micro-steps of one step."""
        (h, g), m = self.gates(weights, cut_stats(t, self.micro_step(0)))
        s, measured = mixed_state(-g, h, carry.h), [m]
        for layer, own in enumerate(weights.extra.later, start=1):
            h_proj = self.later_gates.project_state(own, seen(s, weights.extra.state_mask))
            t_layer = cut_stats(t, self.micro_step(layer))._replace(h_proj=h_proj)
            gates, m = self.later_gates.recurrent_side(own, t_layer)
            h, g = jnp.split(gates, GATES, axis=-1)
            s = mixed_state(-g, h, s)
            measured.append(m)
        return RecurrentHighwayCarry(s.astype(carry.h.dtype)), s.astype(weights.dtype), join_moments(*measured)


def seen(x: Float[Array, "*T F"], mask: Float[Array, "*B F"] | None) -> Float[Array, "*T F"]:
    """Applies the mask, if any, to the input of a product."""
    return x if mask is None else scaled(x, mask)
