"""The recurrent highway network: several highway layers within one step, each with its own normalizer."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float
from jaxnorm.cells import base
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.gru_derivative import mixed_state
from jaxnorm.cells.preactivation import gates, products
from jaxnorm.cells.preactivation.gated_base import Gated
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.cells.preactivation.products import Kernel, gather_bias, merge_gates
from jaxnorm.cells.wrappers import randomness
from jaxnorm.norms.base import Params
from jaxnorm.norms.core.moments import Moments, map_moments
from jaxnorm.zoo.cells.gru import two_stages

GATES = 2
TRANSFORM = 1


class RecurrentHighwayCarry(NamedTuple):
    """The state of a recurrent highway network: s of the last micro-step, named h."""

    h: Float[Array, "*B H"]


class RecurrentHighwayParams(NamedTuple):
    """The weights of a :class:`RecurrentHighway` with L micro-steps, and gates in the order h t."""

    kernel: Float[Array, "I 2 H"]
    recurrent: Float[Array, "L H 2 H"]
    bias: Float[Array, "L 2 H"] | None
    norm: CellNorms
    carry: RecurrentHighwayCarry | None = None


class MicroStep(NamedTuple):
    """The prepared weights of a micro-step after the first."""

    recurrent: Kernel
    norm: Params
    bias: Float[Array, " GH"] | None


class Micro(NamedTuple):
    """The micro-steps after the first, and the masks."""

    steps: tuple[MicroStep, ...]
    input_mask: Float[Array, "*B I"] | None = None
    """Zeros at dropped inputs, the factor that scales up the others elsewhere; None masks nothing."""
    state_mask: Float[Array, "*B H"] | None = None


@final
@dataclasses.dataclass(frozen=True)
class RecurrentHighway(Gated):
    r"""Recurrent highway network (RHN) with coupled gates, variational dropout and normalizers.

    L micro-steps lead from :math:`s_0`, the state before the step, to :math:`s_L`, the output and new state. The first
    micro-step also sees the input:

    .. math::
       h_1, t_1 &= N_x((x_t \odot m_x) W) + N_1((s_0 \odot m_s) U_1) + b_1 \\
       h_l, t_l &= N_l((s_{l-1} \odot m_s) U_l) + b_l, \qquad l = 2, \dots, L \\
       s_l &= \bigl(\tanh(h_l) - s_{l-1}\bigr) \odot \sigma(t_l) + s_{l-1}

    with the normalizers :math:`N_x` (site ``input``) and :math:`N_l` (``recurrent``; each micro-step has its own
    weights and statistics, and the axis L comes before the gates). Variational dropout draws its masks once a sequence
    for each unit of each example; both gates and all micro-steps share :math:`m_s`.

    .. math:: m_x \sim \text{Bernoulli}(1 - p_x) / (1 - p_x), \qquad m_s \sim \text{Bernoulli}(1 - p_s) / (1 - p_s)

    Attributes:
      hidden_features: H.
      depth: L, the number of micro-steps.
      norm: one normalizer for both sites, or CellNorms(input=..., recurrent=...).
      gate_groups: sizes of consecutive groups of gates (order h t) that share statistics: (2,) both, (1, 1) each alone.
      transform_bias: initial value of b for the gate t of every micro-step, part of the parameter: -2 in the published
        word models, -4 in the character models. If use_bias is False, it initializes the bias of the recurrent norms,
        if they have one.
      recurrent_init: initializer of U. It draws each micro-step and gate (H, H) separately; a tuple gives one per gate.
      rate: :math:`p_s`, the probability of dropping a unit of the state, in [0, 1).
      input_rate: :math:`p_x`, the probability of dropping an input.
      deterministic: whether to omit masks, as in evaluation; see :func:`jaxnorm.deterministic`.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.Frame`).

    Raises:
      ValueError: a size is not positive, a rate is not in [0, 1), or a normalizer does not fit a site. In ``sample``:
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
    transform_bias: float = -2.0
    rate: float = 0.0
    input_rate: float = 0.0
    deterministic: bool = False

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0, "recurrent": 1})
    gate_count: ClassVar[int] = GATES
    has_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[RecurrentHighwayCarry]] = RecurrentHighwayCarry

    def __post_init__(self) -> None:
        super().__post_init__()
        _validate.positive_int("RecurrentHighway", "depth", self.depth)
        for name in ("rate", "input_rate"):
            value = getattr(self, name)
            _validate.in_range("RecurrentHighway", name, value, 0.0, 1.0)
            if value == 1.0:
                raise ValueError(
                    f"RecurrentHighway: {name} must be below 1, got {value!r}: nothing would be left to scale up."
                )

    @property
    def draws(self) -> bool:
        """Whether the cell needs a key for masks."""
        return not self.deterministic and max(self.rate, self.input_rate) > 0.0

    def fresh_norms(self) -> CellNorms:
        """Makes the weights of the normalizers; at the recurrent site with a leading axis of micro-steps."""
        norm = super().fresh_norms()
        if not self.use_bias:
            alone = base.resolve_sites("RecurrentHighway", CellNorms(recurrent=self.sites.recurrent), ("recurrent",))
            norm = gates.shift_last_norm(alone, norm, TRANSFORM, self.transform_bias)
        repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.depth, *leaf.shape)), norm.recurrent)
        return norm._replace(recurrent=repeated)

    def initial_stats(self, dtype: DTypeLike | None = None) -> CellNorms:
        """Makes running statistics; at the recurrent site, the axis of micro-steps follows that of the rows."""

        def repeat(m: Moments) -> Moments:
            def each(leaf: Array) -> Array:
                rows, *features = leaf.shape
                return jnp.broadcast_to(leaf[:, None], (rows, self.depth, *features))

            return m._replace(mean=each(m.mean), var=each(m.var))

        stats = super().initial_stats(dtype)
        return stats._replace(recurrent=map_moments(repeat, stats.recurrent))

    def draw(self, key: Key, in_features: int) -> RecurrentHighwayParams:
        """Draws the weights; ``init`` compiles this."""
        hidden, dtype = self.hidden_features, self.param_dtype
        input_key, *keys = jax.random.split(key, 1 + self.depth)
        bias = jnp.zeros((self.depth, GATES, hidden), dtype).at[:, TRANSFORM].set(self.transform_bias)
        recurrent = [self.draw_gates("recurrent_init", self.recurrent_init, key, (hidden, hidden)) for key in keys]
        return RecurrentHighwayParams(
            kernel=self.draw_gates("kernel_init", self.kernel_init, input_key, (in_features, hidden)),
            recurrent=jnp.stack(recurrent),
            bias=bias if self.use_bias else None,
            norm=self.fresh_norms(),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: RecurrentHighwayParams, dtype: DTypeLike | None = None) -> ReadyGates:
        """Prepares the gates of the first micro-step; ``more`` holds the others, as Micro."""
        dtype = dtype or self.dtype

        def of(micro: int) -> RecurrentHighwayParams:
            recurrent, norm, bias = jax.tree.map(
                lambda leaf: leaf[micro], (params.recurrent, params.norm.recurrent, params.bias)
            )
            return params._replace(recurrent=recurrent, norm=params.norm._replace(recurrent=norm), bias=bias)

        def later(p: RecurrentHighwayParams) -> MicroStep:
            norm, bias = jax.tree.map(merge_gates, (p.norm.recurrent, p.bias))
            weights, bias = gather_bias(self.sites.recurrent, norm, bias)
            kernel = merge_gates(p.recurrent)
            kernel = products.ready_kernel(self.sites.recurrent, self.gate_groups, kernel, dtype)
            return MicroStep(Kernel(kernel), weights, bias)

        return super().prepare(of(0), dtype)._replace(more=Micro(tuple(later(of(k)) for k in range(1, self.depth))))

    def sample(self, ready: ReadyGates, batch_shape: tuple[int, ...], key: Key | None) -> ReadyGates:
        """Draws the masks."""
        if not self.draws:
            return ready
        if key is None:
            raise ValueError(
                f"RecurrentHighway: rate={self.rate}, input_rate={self.input_rate} needs randomness, but key is None. "
                "Pass key=jax.random.key(...), or jaxnorm.deterministic(cell) for evaluation."
            )

        def draw(key: Key, rate: float, features: int) -> Array | None:
            return None if rate == 0.0 else randomness.inverted(key, rate, (*batch_shape, features))

        input_key, state_key = jax.random.split(key)
        masks = {
            "input_mask": draw(input_key, self.input_rate, ready.kernel.shape[0]),
            "state_mask": draw(state_key, self.rate, self.hidden_features),
        }
        return ready._replace(more=ready.more._replace(**masks))

    def project(
        self, ready: ReadyGates, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Computes the normalized products of the masked inputs of all steps plus biases, in the compute dtype."""
        return super().project(ready, seen(xs, ready.more.input_mask), stats, where)

    def recur(self, ready: ReadyGates, carry: RecurrentHighwayCarry) -> Float[Array, "*B GH"]:
        """Computes the product of the first micro-step, in at least float32."""
        return products.matmul(seen(carry.h, ready.more.state_mask), ready.recurrent)

    def step(
        self,
        ready: ReadyGates,
        carry: RecurrentHighwayCarry,
        z_t: Float[Array, "*B GH"],
        a_t: Float[Array, "*B GH"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[RecurrentHighwayCarry, Float[Array, "*B H"], CellNorms]:
        """Runs all micro-steps of one step."""
        norm, groups, more = self.sites.recurrent, self.gate_groups, ready.more
        total, m_1 = gates.total(ready, self.sites, groups, z_t, a_t, _of_micro(stats_t, 0), where_t)
        measured = [m_1.recurrent]
        h, t = jnp.split(total, GATES, axis=-1)
        s = mixed_state(-t, h, carry.h.astype(total.dtype))
        for micro, p in enumerate(more.steps, start=1):
            a = products.matmul(seen(s, more.state_mask), p.recurrent)
            stats = _of_micro(stats_t, micro)
            a_hat, m = gates.normalize(norm, groups, p.norm, a, None if stats is None else stats.recurrent, where_t)
            measured.append(m)
            h, t = jnp.split(base.add_bias(a_hat, p.bias), GATES, axis=-1)
            s = mixed_state(-t, h, s)
        together = CellNorms(recurrent=two_stages.stack_moments(*measured, axis=-3))
        return RecurrentHighwayCarry(s.astype(carry.h.dtype)), s.astype(ready.kernel.dtype), together


def seen(x: Float[Array, "*T F"], mask: Float[Array, "*B F"] | None) -> Float[Array, "*T F"]:
    """Applies the mask, if any, to the input of a product."""
    return x if mask is None else products.scaled(x, mask)


def _of_micro(stats: CellNorms | None, micro: int) -> CellNorms | None:
    """Selects the statistics of one micro-step from trailing axes (L, G, H)."""

    def pick(m: Moments) -> Moments:
        return m._replace(mean=m.mean[..., micro, :, :], var=m.var[..., micro, :, :])

    return None if stats is None else CellNorms(recurrent=map_moments(pick, stats.recurrent))
