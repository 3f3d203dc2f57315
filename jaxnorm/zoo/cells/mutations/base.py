"""The common base of MUT1, MUT2 and MUT3: three gates, each normalized alone, some without one of both products."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DType, DTypeLike, Float
from jaxnorm.cells import initializers
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation.groups import cut
from jaxnorm.cells.preactivation.layout import gate_slice
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.vectors import add_bias
from jaxnorm.cells.preactivation.weights import Biases, GateParams, GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.identity import Identity
from jaxnorm.zoo.cells.gru.two_stages import cut_stats

__all__ = ["MUTParams"]


GATES = "rzn"


class MUTParams(NamedTuple):
    """The weights of a :class:`MUT1`, :class:`MUT2` or :class:`MUT3`.

    Gates are in the order r z n, without missing ones; vectors hold gate after gate.
    """

    kernel: Float[Array, "I X H"]
    recurrent: Float[Array, "H R H"]
    bias: Float[Array, " 3H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class MUTWeights(NamedTuple):
    """The weights prepared for a sequence."""

    inputs: GateWeights
    """The input sides of all gates that have one."""
    recurrent: GateWeights
    """The recurrent sides of the gates that multiply h itself."""
    later: tuple[GateWeights, ...]
    """The recurrent side of each other gate, which multiplies a function of h within the step."""
    bias: Float[Array, " 3H"] | None

    @property
    def dtype(self) -> DType:
        """The compute dtype."""
        return self.inputs.dtype


@dataclasses.dataclass(frozen=True)
class MutationBase(CellBase):
    """The common base of the mutations; not a cell itself.

    Attributes:
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
    """

    _: dataclasses.KW_ONLY
    recurrent_init: GatesInitializer = initializers.orthogonal

    gate_count: ClassVar[int] = len(GATES)
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
    carry_type: ClassVar[type[GRUCarry]] = GRUCarry
    recurrent_gates: ClassVar[str] = GATES
    """The gates that have a recurrent product."""
    gates_of_h: ClassVar[int] = 1
    """The number of leading recurrent gates that multiply h itself."""

    @property
    def input_gates(self) -> str:
        """The gates that have an input product."""
        return GATES

    def site_shapes(self) -> CellNorms:
        """The features of the gates with a product at each site."""
        hidden = self.hidden_features
        return CellNorms(input=(len(self.input_gates) * hidden,), recurrent=(len(self.recurrent_gates) * hidden,))

    @property
    def inputs(self) -> PreActivation:
        """The input sides of the gates that have one, each gate normalized alone."""
        norms, groups = self.sites._replace(recurrent=Identity()), (1,) * len(self.input_gates)
        return PreActivation(norms, groups, caller=type(self).__name__)

    def recurrents(self, count: int) -> PreActivation:
        """The recurrent sides of some gates, each gate normalized alone."""
        return PreActivation(self.sites._replace(input=Identity()), (1,) * count, separate=True)

    def init_params(self, key: Key, in_features: int) -> MUTParams:
        """Draws the weights; ``init`` compiles this."""
        caller, hidden, dtype = f"{type(self).__name__}.init", self.hidden_features, self.param_dtype
        if len(self.input_gates) < len(GATES) and in_features != hidden:
            raise ValueError(
                f"{caller}: x itself is added to what h gives, so in_features must be H = {hidden}, got {in_features}. "
                "Pass raw_input='projected' for inputs of another size."
            )

        def draw(name: str, init: GatesInitializer, key: Key, rows: int, count: int) -> Array:
            initializers.check_gates_initializer(caller, name, init, count)
            return initializers.blocks(init, key, (rows, hidden), count, dtype)

        input_key, recurrent_key = jax.random.split(key)
        return MUTParams(
            kernel=draw("kernel_init", self.kernel_init, input_key, in_features, len(self.input_gates)),
            recurrent=draw("recurrent_init", self.recurrent_init, recurrent_key, hidden, len(self.recurrent_gates)),
            bias=self.fresh_bias(key) if self.use_bias else None,
            norm=self.fresh_norms(key),
            carry=self.fresh_carry(),
        )

    def prepare(
        self,
        params: MUTParams,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> MUTWeights:
        """Flattens the kernels, centers them (where that saves a mean) and casts them."""
        dtype, now, everything = dtype or self.dtype, self.gates_of_h, len(self.recurrent_gates)

        def recurrent(first: int, end: int) -> GateWeights:
            norm = cut(params.norm.recurrent, slice(first * self.hidden_features, end * self.hidden_features))
            part = GateParams(None, params.recurrent[:, first:end], CellNorms(recurrent=norm))
            return self.recurrents(end - first).prepare(part, Biases(), dtype)

        inputs = GateParams(params.kernel, None, CellNorms(input=params.norm.input))
        return MUTWeights(
            inputs=self.inputs.prepare(inputs, Biases(), dtype),
            recurrent=recurrent(0, now),
            later=tuple(recurrent(k, k + 1) for k in range(now, everything)),
            bias=params.bias,
        )

    def project_inputs(self, weights: MUTWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B XH"]:
        """Computes the input products of all steps, in at least float32."""
        return self.inputs.project_inputs(weights.inputs, xs)

    def normalize_inputs(
        self,
        weights: MUTWeights,
        xs: Float[Array, "T *B I"],
        products: Float[Array, "T *B XH"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Computes each gate's input: a normalized product or x itself, plus b, in the compute dtype."""
        x, moments = self.inputs.input_side(weights.inputs, products, stats, where, measured)
        sides = dict(zip(self.input_gates, jnp.split(x, len(self.input_gates), axis=-1), strict=True))
        gates = [self.input_side(gate, sides.get(gate, xs.astype(x.dtype))) for gate in GATES]
        return add_bias(jnp.concatenate(gates, axis=-1), weights.bias).astype(weights.dtype), moments

    def input_side(self, gate: str, x: Float[Array, "T *B H"]) -> Float[Array, "T *B H"]:
        """Maps the normalized product of a gate, or x itself if it has none, to the gate's input."""
        return x

    def project_state(self, weights: MUTWeights, carry: GRUCarry) -> Float[Array, "*B RH"]:
        """Computes the recurrent product of h itself, in at least float32."""
        return self.recurrents(self.gates_of_h).project_state(weights.recurrent, carry.h)

    def recurrent_sides(self, weights: MUTWeights, t: StepInput) -> tuple[list[Float[Array, "*B H"]], CellNorms]:
        """Normalizes the product of h itself; one array for each of its gates, and the moments."""
        t = cut_stats(t, slice(0, self.gates_of_h * self.hidden_features))
        h, moments = self.recurrents(self.gates_of_h).recurrent_side(weights.recurrent, t)
        return jnp.split(h, self.gates_of_h, axis=-1), moments

    def later_side(
        self, weights: MUTWeights, gate: str, x: Float[Array, "*B H"], t: StepInput
    ) -> tuple[Float[Array, "*B H"], CellNorms]:
        """Multiplies a function of h by the kernel of a later gate, and normalizes; also returns the moments."""
        k, gates = self.recurrent_gates.index(gate), self.recurrents(1)
        own = weights.later[k - self.gates_of_h]
        t = cut_stats(t, gate_slice(k, self.hidden_features))._replace(h_proj=gates.project_state(own, x))
        return gates.recurrent_side(own, t)
