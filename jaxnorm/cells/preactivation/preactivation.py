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
from jaxnorm.cells.preactivation.centering import after_centering, center, subtracts_mean
from jaxnorm.cells.preactivation.gather import gather_bias
from jaxnorm.cells.preactivation.groups import normalize_groups
from jaxnorm.cells.preactivation.layout import flat_kernel
from jaxnorm.cells.preactivation.matmul import RecurrentKernel, check_features, matmul, matmul_by_gate
from jaxnorm.cells.preactivation.vectors import add_bias, add_last_bias, sum_biases
from jaxnorm.cells.preactivation.weights import Biases, GateWeights
from jaxnorm.cells.sites import CellNorms, SiteInput, normalize_steps
from jaxnorm.norms.base import Normalizer, Stats
from jaxnorm.norms.identity import Identity


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
      caller: the name of the cell, for messages.
    """

    norms: CellNorms
    groups: tuple[int, ...] = (1,)
    outer: str = "summed"
    separate: bool = False
    added_gates: int = 0
    center_recurrent: bool = True
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
        elif self.added_gates and recurrent_out is not None:
            first, recurrent_out = jnp.split(recurrent_out, [self.added_gates * recurrent_out.size // self.gates])
            after_input = sum_biases(after_input, jnp.concatenate([first, jnp.zeros_like(recurrent_out)]))

        kernel: Any = None if params.kernel is None else self._kernel(params.kernel, centers_input, dtype)
        recurrent: Any = None if params.recurrent is None else self._kernel(params.recurrent, centers_recurrent, dtype)
        return GateWeights(
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

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B GH"]:
        """Computes the input products of all steps, in at least float32."""
        check_features(f"{self.caller}.project_inputs", xs, weights.in_features)
        masks = weights.gate_masks
        kernel: Any = weights.kernel
        return matmul(xs, kernel) if masks is None or masks.input is None else matmul_by_gate(xs, kernel, masks.input)

    def normalize_inputs(
        self,
        weights: GateWeights,
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T ..."] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Normalizes the input products and adds the biases, in the compute dtype."""
        x, moments = self.input_side(weights, products, stats, where, measured)
        return x.astype(weights.dtype), moments

    def input_side(
        self,
        weights: GateWeights,
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T ..."] | None,
        measured: CellNorms | None = None,
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Normalizes the input products and adds the biases, in at least float32."""
        x = add_bias(products, weights.input_bias)
        function = partial(self._normalize, self.norms.input, weights.norm.input, weights.gate_masks is None)
        x, moments = normalize_steps(function, x, StepInput((), (), stats, where, None, measured).at("input"))
        return add_bias(x, weights.bias), CellNorms(input=moments)

    def project_state(self, weights: GateWeights, h: Float[Array, "*B H"]) -> Float[Array, "*B GH"]:
        """Computes the recurrent product, in at least float32."""
        masks = weights.gate_masks
        kernel: Any = weights.recurrent
        return matmul(h, kernel) if masks is None or masks.state is None else matmul_by_gate(h, kernel, masks.state)

    def sides(
        self, weights: GateWeights, t: StepInput
    ) -> tuple[Float[Array, "*B GH"], Float[Array, "*B GH"], CellNorms]:
        """Computes both normalized sides of a step in at least float32, before they are added; also the moments."""
        h, moments = self.recurrent_side(weights, t)
        return t.x_proj.astype(h.dtype), h, moments

    def recurrent_side(self, weights: GateWeights, t: StepInput) -> tuple[Float[Array, "*B GH"], CellNorms]:
        """Normalizes the recurrent product of a step and adds its biases, in at least float32; also the moments."""
        h = add_bias(t.h_proj, weights.recurrent_bias)
        centered = weights.gate_masks is None and self.center_recurrent
        h, moments = self._normalize(self.norms.recurrent, weights.norm.recurrent, centered, h, t.at("recurrent"))
        return add_last_bias(h, weights.recurrent_out), CellNorms(recurrent=moments)

    def __call__(self, weights: GateWeights, t: StepInput) -> tuple[tuple[Array, ...], CellNorms]:
        """Computes the pre-activations of a step, one array for each gate; also the moments."""
        x, h, measured = self.sides(weights, t)
        s = x + h
        if self.outer_norm != Identity():
            centered = weights.gate_masks is None and self.centers_sum
            params = getattr(weights.norm, self.outer)
            s, moments = self._normalize(self.outer_norm, params, centered, s, t.at(self.outer))
            s, measured = add_bias(s, weights.outer_bias), measured._replace(**{self.outer: moments})
        return tuple(jnp.split(s, self.gates, axis=-1)), measured

    def _normalize(
        self, norm: Normalizer, params: Any, centered: bool, x: Float[Array, "*B GH"], site: SiteInput
    ) -> tuple[Float[Array, "*B GH"], Stats]:
        """Normalizes products; those of centered kernels have no mean to subtract."""
        return normalize_groups(after_centering(norm) if centered else norm, self.groups, params, x, site)

    def _kernel(self, kernel: Float[Array, "..."], centers: bool, dtype: DTypeLike | None) -> Float[Array, "*N I GH"]:
        flat = flat_kernel(kernel)
        flat = center(self.groups, flat) if centers else flat
        return flat if dtype is None else flat.astype(dtype)

    def _pieces(self, kernel: Any) -> tuple[jax.Array, ...]:
        return tuple(jnp.split(kernel, self.gates, axis=-1))

    def _centered(self, bias: Array | None, centers: bool) -> Array | None:
        return center(self.groups, bias) if centers and bias is not None else bias
