r"""The pre-activations of gates: two products, three sites for normalizers, and the places of the biases.

.. math:: N_s\bigl(N_x(x_t W + b_x) + N_h(h_{t-1} U + b_h)\bigr) + b
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.hooks import GateMasks
from jaxnorm.cells.preactivation.centering import after_centering, center, center_gates, subtracts_mean
from jaxnorm.cells.preactivation.gather import gather_bias
from jaxnorm.cells.preactivation.groups import normalize_by_gate, normalize_groups
from jaxnorm.cells.preactivation.layout import by_gate, flat_kernel
from jaxnorm.cells.preactivation.matmul import RecurrentKernel, check_features, matmul, matmul_by_gate
from jaxnorm.cells.preactivation.spread import gather_features, may_be_spread, spread_axis, spread_vectors
from jaxnorm.cells.preactivation.vectors import add_bias, add_last_bias, sum_biases
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms, SiteInput, normalize_steps
from jaxnorm.norms.base import Normalizer, Stats
from jaxnorm.norms.identity import Identity

_BIASES = ("bias", "input_bias", "recurrent_bias", "recurrent_out", "outer_bias")


@dataclasses.dataclass(frozen=True)
class PreActivation:
    """What the pre-activations of G gates need: it prepares weights, makes both products, normalizes and adds them.

    Attributes:
      norms: the normalizers of the cell.
      groups: sizes of the groups of consecutive gates that share statistics.
      outer: the site of the sum: ``"summed"``, or ``"cell"`` in cells without gates.
      separate: whether to keep the biases of both sides apart, for cells that do more than add the sides.
      added_gates: of those cells, the number of first gates whose sides are only added, as r and z of a GRU. Their
        biases all join the input side, before the loop.
      center_recurrent: whether the recurrent kernel is centered where that saves a mean. A norm over the products of
        several blocks takes its mean over all of them, which does not follow from the kernel of one block.
      by_gate: whether the cell takes its gates from here, so that they may lie on an axis of their own.
      caller: the name of the cell, for messages.
    """

    norms: CellNorms
    groups: tuple[int, ...] = (1,)
    outer: str = "summed"
    separate: bool = False
    added_gates: int = 0
    center_recurrent: bool = True
    by_gate: bool = False
    caller: str = "PreActivation"

    @property
    def gates(self) -> int:
        """G, the number of gates."""
        return sum(self.groups)

    @property
    def outer_norm(self) -> Normalizer:
        """The normalizer of the sum."""
        norm: Normalizer = getattr(self.norms, self.outer)
        return norm

    @property
    def centers_sum(self) -> bool:
        """Whether both kernels are centered for the norm of the sum: its mean is the sum of both products' means."""
        return self.center_recurrent and self.norms.input == self.norms.recurrent == Identity() != self.outer_norm

    def prepare(
        self, params: Any, biases: Biases, dtype: DTypeLike | None, masks: GateMasks | None = None
    ) -> GateWeights:
        """Prepares weights for a sequence.

        Args:
          params: has ``kernel`` (I, G, H), ``recurrent`` (H, G, H) or one per block (N, S, G, S), and ``norm``. None in
            place of a kernel: there is no such product.
          biases: where biases enter.
          dtype: dtype of the kernels; None keeps theirs.
          masks: one mask for each gate; each gate then has a product of its own.
        """
        norms, outer = self.norms, self.outer_norm
        apart = self._keeps_gates_apart(params, masks)
        over_input, over_recurrent = (outer, outer) if self.centers_sum else (norms.input, norms.recurrent)
        # Under masks each gate sees another input: the mean of a group is then no product with one mean kernel.
        centers_input = subtracts_mean(over_input) and masks is None
        centers_recurrent = subtracts_mean(over_recurrent) and masks is None and self.center_recurrent

        input_norm, after_input = gather_bias(norms.input, params.norm.input, None)
        recurrent_norm, recurrent_out = gather_bias(norms.recurrent, params.norm.recurrent, biases.recurrent_out)
        outer_norm, outer_bias = getattr(params.norm, self.outer), None
        if outer != Identity():
            outer_norm, outer_bias = gather_bias(outer, outer_norm, biases.end)
        else:
            after_input = sum_biases(after_input, biases.end)
        if not self.separate:
            after_input, recurrent_out = sum_biases(after_input, recurrent_out), None
        elif self.added_gates and recurrent_out is not None and not apart:
            first, recurrent_out = jnp.split(recurrent_out, [self.added_gates * recurrent_out.size // self.gates])
            after_input = sum_biases(after_input, jnp.concatenate([first, jnp.zeros_like(recurrent_out)]))

        lay = self._kernel_by_gate if apart else self._kernel
        kernel: Any = None if params.kernel is None else lay(params.kernel, centers_input, dtype)
        recurrent: Any = None if params.recurrent is None else lay(params.recurrent, centers_recurrent, dtype)
        weights = GateWeights(
            kernel=self._pieces(kernel) if masks is not None and masks.input is not None else kernel,
            recurrent=(
                tuple(map(RecurrentKernel, self._pieces(recurrent)))
                if masks is not None and masks.state is not None
                else RecurrentKernel(recurrent)
            ),
            norm=params.norm._replace(**{"input": input_norm, "recurrent": recurrent_norm, self.outer: outer_norm}),
            bias=after_input,
            input_bias=self._centered(biases.input, centers_input),
            recurrent_bias=self._centered(biases.recurrent, centers_recurrent),
            recurrent_out=recurrent_out,
            outer_bias=outer_bias,
            gate_masks=masks,
        )
        return self._spread(weights, params, recurrent, apart=apart)

    def _keeps_gates_apart(self, params: Any, masks: GateMasks | None) -> bool:
        """Whether hidden features are, or may be, spread over devices; raises ValueError where they cannot be."""
        axis = spread_axis(params.kernel, params.recurrent)
        fixed = [norm for norm in self.norms if norm != Identity() and _over_gates(norm) is None]
        able = self.by_gate and masks is None and not fixed
        if axis is not None and not able:
            what = f"{fixed[0]!r} needs them on one device" if fixed else "the cell needs them on one device"
            raise ValueError(
                f"{self.caller}: the hidden features of its kernels are spread over the mesh axis {axis!r}, but "
                f"{what}. Spread the batch, or leave the kernels whole."
            )
        return self.gates > 1 and able and (axis is not None or may_be_spread(params.kernel, params.recurrent))

    def _spread(self, weights: GateWeights, params: Any, recurrent: Any, *, apart: bool) -> GateWeights:
        """Lays vectors out by gate, and gives each device its part of them."""
        if apart:

            def lay(tree: Any) -> Any:
                return jax.tree.map(lambda leaf: by_gate(leaf, self.gates), tree)

            sites = {name: lay(getattr(weights.norm, name)) for name in {"input", "recurrent", self.outer}}
            biases = {name: lay(getattr(weights, name)) for name in _BIASES}
            weights = weights._replace(recurrent=recurrent, norm=weights.norm._replace(**sites), **biases)
        if spread_axis(params.recurrent) is None:
            return weights
        vectors = {name: getattr(weights, name) for name in ("norm", *_BIASES)}
        return weights._replace(**spread_vectors(vectors, params.recurrent))

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T ..."]:
        """Computes the input products of all steps, in at least float32."""
        check_features(f"{self.caller}.project_inputs", xs, weights.in_features)
        masks = weights.gate_masks
        kernel: Any = weights.kernel
        return matmul(xs, kernel) if masks is None or masks.input is None else matmul_by_gate(xs, kernel, masks.input)

    def normalize_inputs(
        self,
        weights: GateWeights,
        products: Float[Array, "T ..."],
        stats: CellNorms | None,
        where: Bool[Array, "T ..."] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T ..."], CellNorms]:
        """Normalizes the input products and adds the biases, in the compute dtype."""
        x, moments = self.input_side(weights, products, stats, where, measured)
        return x.astype(weights.dtype), moments

    def input_side(
        self,
        weights: GateWeights,
        products: Float[Array, "T ..."],
        stats: CellNorms | None,
        where: Bool[Array, "T ..."] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T ..."], CellNorms]:
        """Normalizes the input products and adds the biases, in at least float32."""
        x = add_bias(products, weights.input_bias)
        centered, apart = weights.gate_masks is None, weights.gates_apart
        function = partial(self._normalize, self.norms.input, weights.norm.input, centered, apart)
        x, moments = normalize_steps(function, x, StepInput((), (), stats, where, None, measured).at("input"))
        return add_bias(x, weights.bias), CellNorms(input=moments)

    def project_state(self, weights: GateWeights, h: Float[Array, "*B H"]) -> Float[Array, "..."]:
        """Computes the recurrent product, in at least float32."""
        masks = weights.gate_masks
        kernel: Any = weights.recurrent
        h = gather_features(h, kernel) if weights.gates_apart or spread_axis(h) is not None else h
        return matmul(h, kernel) if masks is None or masks.state is None else matmul_by_gate(h, kernel, masks.state)

    def sides(self, weights: GateWeights, t: StepInput) -> tuple[Float[Array, "..."], Float[Array, "..."], CellNorms]:
        """Computes both normalized sides of a step in at least float32, before they are added; also the moments."""
        h, moments = self.recurrent_side(weights, t)
        return t.x_proj.astype(h.dtype), h, moments

    def recurrent_side(self, weights: GateWeights, t: StepInput) -> tuple[Float[Array, "..."], CellNorms]:
        """Normalizes the recurrent product of a step and adds its biases, in at least float32; also the moments."""
        h = add_bias(t.h_proj, weights.recurrent_bias)
        centered = weights.gate_masks is None and self.center_recurrent
        norm, params = self.norms.recurrent, weights.norm.recurrent
        h, moments = self._normalize(norm, params, centered, weights.gates_apart, h, t.at("recurrent"))
        return add_last_bias(h, weights.recurrent_out), CellNorms(recurrent=moments)

    def __call__(self, weights: GateWeights, t: StepInput) -> tuple[tuple[Array, ...], CellNorms]:
        """Computes the pre-activations of a step, one array for each gate; also the moments."""
        x, h, measured = self.sides(weights, t)
        s = x + h
        if self.outer_norm != Identity():
            centered = weights.gate_masks is None and self.centers_sum
            params = getattr(weights.norm, self.outer)
            apart = weights.gates_apart
            s, moments = self._normalize(self.outer_norm, params, centered, apart, s, t.at(self.outer))
            s, measured = add_bias(s, weights.outer_bias), measured._replace(**{self.outer: moments})
        return split_gates(s, self.gates, weights), measured

    def _normalize(
        self, norm: Normalizer, params: Any, centered: bool, apart: bool, x: Float[Array, "..."], site: SiteInput
    ) -> tuple[Float[Array, "..."], Stats]:
        """Normalizes products; those of centered kernels have no mean to subtract."""
        normalize = normalize_by_gate if apart else normalize_groups
        return normalize(after_centering(norm) if centered else norm, self.groups, params, x, site)

    def _kernel_by_gate(self, kernel: Float[Array, "..."], centers: bool, dtype: DTypeLike | None) -> Any:
        kernel = center_gates(self.groups, kernel) if centers else kernel
        return kernel if dtype is None else kernel.astype(dtype)

    def _kernel(self, kernel: Float[Array, "..."], centers: bool, dtype: DTypeLike | None) -> Float[Array, "*N I GH"]:
        flat = flat_kernel(kernel)
        flat = center(self.groups, flat) if centers else flat
        return flat if dtype is None else flat.astype(dtype)

    def _pieces(self, kernel: Any) -> tuple[jax.Array, ...]:
        return tuple(jnp.split(kernel, self.gates, axis=-1))

    def _centered(self, bias: Array | None, centers: bool) -> Array | None:
        return center(self.groups, bias) if centers and bias is not None else bias


def split_gates(x: Float[Array, "..."], gates: int, weights: GateWeights) -> tuple[Array, ...]:
    """Returns the features of each gate."""
    if weights.gates_apart:
        return tuple(x[..., gate, :] for gate in range(gates))
    return tuple(jnp.split(x, gates, axis=-1))


def _over_gates(norm: Any) -> Any:
    """The normalizer for gates on an axis of their own; None if it does not offer one."""
    return norm.over_gates() if hasattr(norm, "over_gates") else None
