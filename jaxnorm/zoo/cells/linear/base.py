"""The common base of cells that are linear in the carry: everything except their gates.

There is no recurrent kernel. Gates depend only on the input, so ``normalize_inputs`` computes decay and increment of
all steps at once, and a step is one multiplication and one addition. All steps together are an associative scan.
"""

import abc
import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Bool, DTypeLike, Float
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.cell_base import CellBase
from jaxnorm.cells.preactivation.gated_base import check_groups, check_vectors, shift_last_norm
from jaxnorm.cells.preactivation.preactivation import PreActivation
from jaxnorm.cells.preactivation.weights import Biases, GateParams, GateWeights
from jaxnorm.cells.sites import CellNorms


class LinearInput(NamedTuple):
    """What a step makes of the carry: ``decay * h + increment``, in at least float32."""

    decay: Float[Array, "*B H"]
    increment: Float[Array, "*B H"]


def positive(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The g of the log-space form: x + 1/2 if x is not negative, else the logistic function; always positive."""
    return jnp.where(x >= 0, x + 0.5, sigmoid(x))


@dataclasses.dataclass(frozen=True)
class LinearCellBase(CellBase, abc.ABC):
    """The common base of linear cells; not a cell itself. The last gate is the candidate.

    Attributes:
      candidate: the function of the candidate's pre-activation: ``"linear"`` keeps it, ``"positive"`` applies g.
      gate_groups: sizes of the groups of consecutive gates that share statistics.
    """

    _: dataclasses.KW_ONLY
    candidate: Literal["linear", "positive"] = "linear"
    gate_groups: tuple[int, ...] = ()

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0})
    default_sites: ClassVar[tuple[str, ...]] = ("input",)
    multiplies_state: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        caller = type(self).__name__
        check_groups(caller, self.gate_groups, self.gate_count)
        check_vectors(caller, self.sites, self.site_shapes(), self.gate_groups)
        validate.choice(caller, "candidate", self.candidate, ("linear", "positive"))

    @property
    def gates(self) -> PreActivation:
        """The pre-activation object of all gates, which have no recurrent product."""
        return PreActivation(self.sites, self.gate_groups, caller=type(self).__name__)

    @abc.abstractmethod
    def mix(self, *pre_activations: Float[Array, "*B H"]) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
        """Computes the weights of the old state and of the candidate, from all gates except the last."""

    def init_linear(self, key: Key, in_features: int, gate: int, start: Any) -> dict[str, Any]:
        """Draws the weights, keyed by name; ``start`` (number or initializer) sets the initial bias of one gate."""
        bias, norm = self.start_bias(key, gate, start), self.fresh_norms(key)
        return {
            "kernel": self.init_gates("kernel_init", self.kernel_init, key, (in_features, self.hidden_features)),
            "bias": bias if self.use_bias else None,
            "norm": norm if self.use_bias else shift_last_norm(self.sites, norm, bias),
            "carry": self.fresh_carry(),
        }

    def prepare(
        self,
        params: Any,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> GateWeights:
        """Flattens the kernel, gathers biases, centers the kernel (where that saves a mean) and casts it."""
        params, biases = GateParams(params.kernel, None, params.norm), Biases(end=params.bias)
        return self.gates.prepare(params, biases, dtype or self.dtype)

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "T *B I"]) -> Float[Array, "T *B GH"]:
        """Computes the input products of all steps, in at least float32."""
        return self.gates.project_inputs(weights, xs)

    def normalize_inputs(
        self,
        weights: GateWeights,
        xs: Float[Array, "T *B I"],
        products: Float[Array, "T *B GH"],
        stats: CellNorms | None,
        where: Bool[Array, "T *B"] | None,
        measured: CellNorms | None = None,
    ) -> tuple[LinearInput, CellNorms]:
        """Computes decay and increment of all steps, in at least float32."""
        x, moments = self.gates.input_side(weights, products, stats, where, measured)
        *others, n = jnp.split(x, self.gate_count, axis=-1)
        stays, enters = self.mix(*others)
        n = n if self.candidate == "linear" else positive(n)
        return LinearInput(stays, enters * n), moments

    def coefficients(self, weights: GateWeights, x_proj: LinearInput) -> tuple[Any, Any]:
        """Returns decay and increment of the carry."""
        return self.carry_type(h=x_proj.decay), self.carry_type(h=x_proj.increment)

    def project_state(self, weights: GateWeights, carry: Any) -> tuple[()]:
        """There is no recurrent product."""
        return ()

    def step(self, weights: GateWeights, carry: Any, t: StepInput) -> tuple[Any, Float[Array, "*B H"], CellNorms]:
        """Computes the new state."""
        decay, increment = t.x_proj
        h = decay * carry.h.astype(decay.dtype) + increment
        return self.carry_type(h=h.astype(carry.h.dtype)), h.astype(weights.dtype), CellNorms()
