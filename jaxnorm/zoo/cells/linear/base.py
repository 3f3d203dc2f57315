"""The common base of cells that are linear in the carry: everything except their gates.

There is no recurrent kernel. Gates depend only on the input, so ``project`` computes decay and increment of all steps
at once, and a step is one multiplication and one addition. All steps together are an associative scan.
"""

import abc
import dataclasses
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.nn import sigmoid

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float
from jaxnorm.cells import base, initializers
from jaxnorm.cells.base import Key
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.cell_base import Frame
from jaxnorm.cells.preactivation import gates, products
from jaxnorm.cells.preactivation.centering import center
from jaxnorm.cells.preactivation.products import add_biases, gather_bias, merge_gates
from jaxnorm.norms.base import Params
from jaxnorm.norms.core.moments import statistics_dtype


class ReadyLinear(NamedTuple):
    """The weights prepared for a sequence: gates concatenated, the kernel centered and cast, biases gathered."""

    kernel: Float[Array, "I GH"]
    norm: Params
    """The weights of the normalizer at the site input."""
    bias: Float[Array, " GH"] | None


def positive(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The g of the log-space form: x + 1/2 if x is not negative, else the logistic function; always positive."""
    return jnp.where(x >= 0, x + 0.5, sigmoid(x))


@dataclasses.dataclass(frozen=True)
class LinearFrame(Frame, abc.ABC):
    """The common base of linear cells; not a cell itself. The last gate is the candidate.

    Attributes:
      candidate: the function of the candidate's pre-activation: ``"linear"`` keeps it, ``"positive"`` applies g.
      gate_groups: sizes of the groups of consecutive gates that share statistics.
    """

    _: dataclasses.KW_ONLY
    candidate: Literal["linear", "positive"] = "linear"
    gate_groups: tuple[int, ...] = ()

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0})
    has_sites: ClassVar[tuple[str, ...]] = ("input",)
    params_type: ClassVar[Any]
    """The NamedTuple of the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        gates.check_groups(where, self.gate_groups, self.gate_count)
        _validate.choice(where, "candidate", self.candidate, ("linear", "positive"))

    @abc.abstractmethod
    def mix(self, *pre_activations: Float[Array, "*B H"]) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
        """Computes the weights of the old state and of the candidate, from all gates except the last."""

    def draw_with(self, key: Key, in_features: int, gate: int, start: Any) -> Any:
        """Draws the weights, with an initial value (a number or an initializer) for the bias of one gate."""
        hidden = self.hidden_features
        first = initializers.filled(start, jax.random.fold_in(key, 2), (hidden,), self.param_dtype)
        norm = self.fresh_norms()
        zeros = jnp.zeros((self.gate_count, hidden), self.param_dtype)
        return self.params_type(
            kernel=self.draw_gates("kernel_init", self.kernel_init, key, (in_features, hidden)),
            bias=zeros.at[gate].set(first) if self.use_bias else None,
            norm=norm if self.use_bias else gates.shift_last_norm(self.sites, norm, gate, first),
            carry=self.fresh_carry(),
        )

    def prepare(self, params: Any, dtype: DTypeLike | None = None) -> ReadyLinear:
        """Merges gates with features, gathers biases, centers the kernel (where that saves a mean) and casts it."""
        norm, bias = gather_bias(self.sites.input, jax.tree.map(merge_gates, params.norm.input), None)
        kernel = center(self.sites.input, self.gate_groups, merge_gates(params.kernel))
        return ReadyLinear(
            kernel=kernel.astype(dtype or self.dtype or kernel.dtype),
            norm=norm,
            bias=add_biases(bias, None if params.bias is None else merge_gates(params.bias)),
        )

    def project(
        self, ready: ReadyLinear, xs: Float[Array, "T *B I"], stats: CellNorms | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "T *B two_H"], CellNorms]:
        """Computes decay and increment of all steps, concatenated, in at least float32."""
        products.check_features(f"{type(self).__name__}.project", xs, ready.kernel)
        normalize = partial(gates.normalize, self.sites.input, self.gate_groups, ready.norm)
        zs = products.matmul(xs, ready.kernel)
        zs, measured = base.over_steps(normalize, zs, None if stats is None else stats.input, where)
        *others, n = jnp.split(base.add_bias(zs, ready.bias), self.gate_count, axis=-1)
        stays, enters = self.mix(*others)
        n = n if self.candidate == "linear" else positive(n)
        return jnp.concatenate([stays, enters * n], axis=-1), CellNorms(input=measured)

    def coefficients(self, ready: ReadyLinear, zs: Float[Array, "*B two_H"]) -> tuple[Any, Any]:
        """Splits decay and increment of the carry."""
        decay, increment = jnp.split(zs, 2, axis=-1)
        return self.carry_type(h=decay), self.carry_type(h=increment)

    def recur(self, ready: ReadyLinear, carry: Any) -> Float[Array, "*B H"]:
        """Returns the state itself, in at least float32: there is no recurrent product."""
        h: Array = carry.h
        return h.astype(statistics_dtype(h.dtype))

    def step(
        self,
        ready: ReadyLinear,
        carry: Any,
        z_t: Float[Array, "*B two_H"],
        a_t: Float[Array, "*B H"],
        stats_t: CellNorms | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[Any, Float[Array, "*B H"], CellNorms]:
        """Computes the new state."""
        decay, increment = self.coefficients(ready, z_t)
        h = decay.h * a_t.astype(decay.h.dtype) + increment.h
        return self.carry_type(h=h.astype(carry.h.dtype)), h.astype(ready.kernel.dtype), CellNorms()
