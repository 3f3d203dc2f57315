"""The common base of MUT1, MUT2 and MUT3: three gates, each normalized alone, some without one of both products."""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells import base, initializers
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.gru import GRUCarry
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation import products
from jaxnorm.cells.preactivation.centering import after_centering
from jaxnorm.cells.preactivation.products import Kernel, merge_gates
from jaxnorm.norms.base import Normalizer, Params, Stats
from jaxnorm.norms.core.moments import Moments, map_moments
from jaxnorm.zoo.cells.gru import two_stages

GATES = "rzn"


class MUTParams(NamedTuple):
    """The weights of a :class:`MUT1`, :class:`MUT2` or :class:`MUT3`; order r z n, without missing gates."""

    kernel: Float[Array, "I X H"]
    recurrent: Float[Array, "H R H"]
    bias: Float[Array, "3 H"] | None
    norm: CellNorms
    carry: GRUCarry | None = None


class ReadyMUT(NamedTuple):
    """The weights prepared for a sequence: kernels centered and cast."""

    kernel: Float[Array, "I XH"]
    recurrent: Kernel
    """The kernel of the product of h itself."""
    later: tuple[Kernel, ...]
    """The kernels of later products in a step, which multiply functions of h, one for each gate."""
    norm: CellNorms
    bias: Float[Array, " 3H"] | None


@dataclasses.dataclass(frozen=True)
class Mutation(Frame):
    """The common base of the mutations; not a cell itself.

    Attributes:
      recurrent_init: initializer of U. It draws each gate (H, H) separately; a tuple gives one initializer per gate.
    """

    _: dataclasses.KW_ONLY
    recurrent_init: GatesInitializer = initializers.orthogonal

    has_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent")
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
        """The shape of the gates with a product at each site."""
        hidden = self.hidden_features
        return CellNorms(input=(len(self.input_gates), hidden), recurrent=(len(self.recurrent_gates), hidden))

    def draw(self, key: Key, in_features: int) -> MUTParams:
        """Draws the weights; ``init`` compiles this."""
        where, hidden, dtype = f"{type(self).__name__}.init", self.hidden_features, self.param_dtype
        if len(self.input_gates) < len(GATES) and in_features != hidden:
            raise ValueError(
                f"{where}: x itself is added to what h gives, so in_features must be H = {hidden}, got {in_features}. "
                "Pass raw_input='projected' for inputs of another size."
            )

        def draw(name: str, init: GatesInitializer, key: Key, rows: int, count: int) -> Array:
            return initializers.blocks(where, name, init, key, (rows, hidden), count, dtype)

        input_key, recurrent_key = jax.random.split(key)
        return MUTParams(
            kernel=draw("kernel_init", self.kernel_init, input_key, in_features, len(self.input_gates)),
            recurrent=draw("recurrent_init", self.recurrent_init, recurrent_key, hidden, len(self.recurrent_gates)),
            bias=jnp.zeros((len(GATES), hidden), dtype) if self.use_bias else None,
            norm=self.fresh_norms(),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: MUTParams, dtype: DTypeLike | None = None) -> ReadyMUT:
        """Merges gates with features, centers the kernels (where that saves a mean) and casts them."""
        norm, dtype = self.sites, dtype or self.dtype
        alone = (1,) * len(self.input_gates)
        now, later = params.recurrent[:, : self.gates_of_h], params.recurrent[:, self.gates_of_h :]
        return ReadyMUT(
            kernel=products.ready_kernel(norm.input, alone, merge_gates(params.kernel), dtype),
            recurrent=Kernel(products.ready_kernel(norm.recurrent, (1,) * self.gates_of_h, merge_gates(now), dtype)),
            later=tuple(
                Kernel(products.ready_kernel(norm.recurrent, (1,), later[:, k], dtype)) for k in range(later.shape[1])
            ),
            norm=params.norm,
            bias=None if params.bias is None else merge_gates(params.bias),
        )

    def project(
        self, ready: ReadyMUT, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Computes each gate's input: a normalized product or x itself, plus b, in the compute dtype."""
        products.check_features(f"{type(self).__name__}.project", xs, ready.kernel)
        all_gates = products.matmul(xs, ready.kernel)
        used = None if stats is None else stats.input
        sides, measured = {}, []
        for k, z in enumerate(jnp.split(all_gates, len(self.input_gates), axis=-1)):
            normalize = partial(normalize_gate, self.sites.input, ready.norm.input, k)
            sides[self.input_gates[k]], m = base.over_steps(normalize, z, used, where)
            measured.append(m)
        zs = [self.input_side(gate, sides.get(gate, xs.astype(all_gates.dtype))) for gate in GATES]
        zs_and_b = base.add_bias(jnp.concatenate(zs, axis=-1), ready.bias)
        return zs_and_b.astype(ready.kernel.dtype), CellNorms(input=two_stages.stack_moments(*measured, axis=-2))

    def input_side(self, gate: str, z: Float[Array, "T *B H"]) -> Float[Array, "T *B H"]:
        """Maps the input product of a gate, or x itself if it has none, to the gate's input."""
        return z

    def recur(self, ready: ReadyMUT, carry: GRUCarry) -> Float[Array, "*B RH"]:
        """Computes the recurrent product of h itself, in at least float32."""
        return products.matmul(carry.h, ready.recurrent)

    def recurrent_side(
        self,
        ready: ReadyMUT,
        gate: str,
        a_t: Float[Array, "*B H"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
    ) -> tuple[Float[Array, "*B H"], Stats]:
        """Computes the normalized recurrent product of a gate, and its moments."""
        used = None if stats_t is None else stats_t.recurrent
        k = self.recurrent_gates.index(gate)
        return normalize_gate(self.sites.recurrent, ready.norm.recurrent, k, a_t, used, where_t)


def normalize_gate(
    norm: Normalizer,
    params: Params,
    gate: int,
    x: Float[Array, "*B H"],
    stats: Stats | None,
    where: Bool[Array, "*B"] | None,
) -> tuple[Float[Array, "*B H"], Stats]:
    """Applies a normalizer to the product of one gate (of a centered kernel); statistics have trailing axes (G, H)."""

    def pick(m: Moments) -> Moments:
        return m._replace(mean=m.mean[..., gate, :], var=m.var[..., gate, :])

    weights = jax.tree.map(lambda leaf: leaf[gate], params)
    used = None if stats is None else map_moments(pick, stats)
    return base.normalize_features(after_centering(norm), weights, x, used, where)
