"""The common base of cells similar to LSTM and GRU: concatenated gates, two products, one bias after all norms."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array, Bool, DTypeLike, Float, Initializer
from jaxnorm.cells import initializers
from jaxnorm.cells.base import CellNorms, Key
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.preactivation import gates, products
from jaxnorm.cells.preactivation.gates import ReadyGates


@dataclasses.dataclass(frozen=True)
class Gated(Frame):
    """The common base of cells with concatenated gates; not a cell itself.

    Attributes:
      gate_groups: sizes of the groups of consecutive gates that share statistics.
      recurrent_init: initializer of U. It draws each gate separately; a tuple gives one initializer per gate.
    """

    _: dataclasses.KW_ONLY
    gate_groups: tuple[int, ...] = (1,)
    recurrent_init: GatesInitializer = initializers.orthogonal

    def __post_init__(self) -> None:
        super().__post_init__()
        gates.check_groups(type(self).__name__, self.gate_groups, self.gate_count)

    def draw_gated(self, key: Key, in_features: int, gate: int = 0, start: float | Initializer = 0.0) -> dict[str, Any]:
        """Draws the weights, keyed by name; ``start`` (number or initializer) sets the initial bias of one gate."""
        hidden = self.hidden_features
        input_key, recurrent_key = jax.random.split(key)
        norm = self.fresh_norms()
        first = initializers.filled(start, jax.random.fold_in(key, 2), (hidden,), self.param_dtype)
        bias = jnp.zeros((self.gate_count, hidden), self.param_dtype).at[gate].set(first)
        return {
            "kernel": self.draw_gates("kernel_init", self.kernel_init, input_key, (in_features, hidden)),
            "recurrent": self.draw_gates(
                "recurrent_init", self.recurrent_init, recurrent_key, (self.out_features, hidden)
            ),
            "bias": bias if self.use_bias else None,
            "norm": norm if self.use_bias else gates.shift_last_norm(self.sites, norm, gate, first),
            "carry": self.fresh_carry(),
        }

    def prepare(self, params: Any, dtype: DTypeLike | None = None) -> ReadyGates:
        """Merges gates with features, gathers biases, centers the kernels (where that saves a mean) and casts them."""
        return gates.prepare(params, self.sites, self.gate_groups, dtype or self.dtype, bias=params.bias)

    def project(
        self, ready: ReadyGates, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B GH"], CellNorms]:
        """Computes the normalized input products of all steps plus the biases, in the compute dtype."""
        where_from = f"{type(self).__name__}.project"
        return gates.project(where_from, ready, self.sites, self.gate_groups, xs, stats, where)

    def recur(self, ready: ReadyGates, carry: Any) -> Float[Array, "*B GH"]:
        """Computes the recurrent product a_t in at least float32."""
        return products.matmul(carry.h, ready.recurrent)
