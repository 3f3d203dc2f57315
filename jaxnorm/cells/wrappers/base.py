"""The common base of cell wrappers, and the switch between training and evaluation.

A wrapper is a spec like the cell it wraps, and overrides some of its methods. It keeps the statistics and carries of
that cell. A wrapper that draws masks also keeps its params, so you can exchange the cell and the wrapped cell.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.objects import is_one
from jaxnorm._base.typing import Array, Axis, Bool, DTypeLike, Float, PyTree
from jaxnorm.cells import carries
from jaxnorm.cells.base import Carry, Cell, CountedCarry, Key, Products, StepInput, Weights, check_cell
from jaxnorm.cells.hooks import CellHooks, GateMasks, hooks
from jaxnorm.cells.no_module import NoModule
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.wrappers.randomness import key_pair
from jaxnorm.norms.base import Params, Stats

C = TypeVar("C")


class WithMasks(NamedTuple):
    """The weights of a cell, with the masks that its wrapper drew for a sequence."""

    weights: Weights
    masks: Any
    """None if the wrapper has no mask that all steps share."""


@dataclasses.dataclass(frozen=True)
class CellWrapper(CellHooks, NoModule):
    """The common base of wrappers: every method and every hook is that of the inner cell. Not a cell itself.

    Attributes:
      cell: any cell, including one that is already wrapped.
    """

    cell: Cell

    keyword_advice = foreign_keywords.WRAPPERS

    def __post_init__(self) -> None:
        check_cell(type(self).__name__, "cell", self.cell)

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites."""
        return self.cell.sites

    @property
    def hidden_features(self) -> int:
        """H, the number of hidden features."""
        return self.cell.hidden_features

    @property
    def out_features(self) -> int:
        """Number of features of the outputs."""
        return self.cell.out_features

    @property
    def max_steps(self) -> int:
        """Number of rows of the running statistics."""
        return self.cell.max_steps

    @property
    def dtype(self) -> DTypeLike | None:
        """The compute dtype; None promotes inputs and weights."""
        return self.cell.dtype

    @property
    def feature_axes(self) -> int:
        """The number of trailing axes that are features of one example."""
        return hooks(self.cell).feature_axes

    @property
    def kernel_axes(self) -> Mapping[str, Axis]:
        """The axes that hold the inputs of a unit, keyed by the name of each kernel."""
        return hooks(self.cell).kernel_axes

    @property
    def gate_count(self) -> int:
        """G, the number of pre-activations for each hidden feature."""
        return hooks(self.cell).gate_count

    @property
    def supports_candidate_scale(self) -> bool:
        """Whether ``step`` multiplies the candidate by ``t.candidate_scale``."""
        return hooks(self.cell).supports_candidate_scale

    @property
    def supports_gate_masks(self) -> bool:
        """Whether ``prepare`` takes ``gate_masks``."""
        return hooks(self.cell).supports_gate_masks

    @property
    def multiplies_state(self) -> bool:
        """Whether ``project_state`` multiplies ``carry.h`` by a kernel."""
        return hooks(self.cell).multiplies_state

    @property
    def uses_age(self) -> bool:
        """Whether ``step`` needs the age of each example."""
        return hooks(self.cell).uses_age

    @property
    def needs_key(self) -> bool:
        """Whether an inner cell needs a key for masks."""
        return hooks(self.cell).needs_key

    @property
    def fixes_params(self) -> bool:
        """Whether ``init`` says which weights the cell takes."""
        return hooks(self.cell).fixes_params

    def in_features(self, params: Params) -> int | None:
        """I, the number of inputs that the weights are made for."""
        return hooks(self.cell).in_features(params)

    def init(self, key: Key, in_features: int) -> Params:
        """Makes fresh weights of the inner cell."""
        return self.cell.init(key, in_features)

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Makes running statistics of the inner cell."""
        return self.cell.initial_stats(dtype)

    @answers_keywords(foreign_keywords.INITIAL_CARRY)
    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
        out_sharding: PartitionSpec | NamedSharding | None = None,
    ) -> Carry:
        """Makes the initial carry of the inner cell; ``out_sharding`` is as in other cells."""
        carry = self.cell.initial_carry(batch_shape, params=params, key=key, dtype=dtype)
        return carries.spread(carry, batch_shape, out_sharding)

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> Weights:
        """Prepares the weights of the inner cell; ``gate_masks`` are for cells that support them."""
        more: Any = {} if gate_masks is None else {"gate_masks": gate_masks}
        return self.cell.prepare(params, dtype=dtype, batch_shape=batch_shape, key=key, **more)

    def inner_weights(self, weights: Weights) -> Weights:
        """Returns the weights of the inner cell, as its own ``prepare`` made them."""
        return weights

    def project_inputs(self, weights: Weights, xs: Float[Array, "T *B I"]) -> Products:
        """Computes the input products of all steps."""
        return self.cell.project_inputs(self.inner_weights(weights), xs)

    def normalize_inputs(
        self,
        weights: Weights,
        xs: Float[Array, "T *B I"],
        products: Products,
        stats: Stats | None,
        where: Bool[Array, "T ..."] | None,
        measured: Stats | None = None,
    ) -> tuple[PyTree, Stats]:
        """Normalizes the input products of all steps."""
        return self.cell.normalize_inputs(self.inner_weights(weights), xs, products, stats, where, measured)

    def project_state(self, weights: Weights, carry: Carry) -> Products:
        """Computes the recurrent products."""
        return self.cell.project_state(self.inner_weights(weights), carry)

    def step(self, weights: Weights, carry: Carry, t: StepInput) -> tuple[Carry, PyTree, Stats]:
        """Does the rest of a step."""
        return self.cell.step(self.inner_weights(weights), carry, t)

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds moments into running statistics, by the rule of the inner cell."""
        return self.cell.update_running(stats, moments)


@dataclasses.dataclass(frozen=True)
class StochasticWrapper(CellWrapper):
    """The common base of wrappers that draw masks; its weights are :class:`WithMasks`. Not a cell itself.

    Attributes:
      cell: any cell, including one that is already wrapped.
      deterministic: whether it computes expectations, as in evaluation, instead of drawing masks.
    """

    _: dataclasses.KW_ONLY
    deterministic: bool = False

    rates: ClassVar[tuple[str, ...]] = ("rate",)
    """The fields that hold probabilities; if all are zero, the wrapper draws nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.rates:
            validate.in_range(type(self).__name__, name, getattr(self, name), 0.0, 1.0)

    @property
    def active(self) -> bool:
        """Whether this wrapper itself draws masks."""
        return not self.deterministic and any(getattr(self, name) > 0.0 for name in self.rates)

    @property
    def needs_key(self) -> bool:
        """Whether this wrapper or an inner cell needs a key for masks."""
        return self.active or super().needs_key

    def keys(self, key: Key | None) -> tuple[Key | None, Key | None]:
        """Returns a key for this wrapper (None if it draws nothing) and one for the inner cell."""
        if key is None and self.active:
            rates = ", ".join(f"{name}={getattr(self, name)}" for name in self.rates if getattr(self, name) > 0.0)
            raise ValueError(
                f"{type(self).__name__}: {rates} needs randomness, but key is None. Pass key=jax.random.key(...), or "
                "jaxnorm.deterministic(cell) for evaluation."
            )
        own, inner = key_pair(key)
        return own if self.active else None, inner

    def draw_masks(self, key: Key, params: Params, batch_shape: tuple[int, ...]) -> Any:
        """Draws the masks that all steps of a sequence share; None if there are none."""
        return None

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> WithMasks:
        """Prepares the weights of the inner cell, and draws the masks that all steps of a sequence share."""
        own, inner = self.keys(key)
        masks = None if own is None else self.draw_masks(own, params, batch_shape)
        weights = super().prepare(params, dtype=dtype, batch_shape=batch_shape, key=inner, gate_masks=gate_masks)
        return WithMasks(weights, masks)

    def inner_weights(self, weights: WithMasks) -> Weights:
        """Returns the weights of the inner cell, as its own ``prepare`` made them."""
        return weights.weights

    def step(self, weights: WithMasks, carry: Carry, t: StepInput) -> tuple[Carry, PyTree, Stats]:
        """Does the rest of a step, with the inner cell's key."""
        return super().step(weights, carry, t._replace(key=key_pair(t.key)[1]))


def deterministic(cell: C, *, value: bool = True) -> C:
    """Switches a cell to evaluation: every wrapper in it computes expectations, and needs no key.

    Args:
      cell: any cell, wrapped or not; a cell without wrappers comes back unchanged.
      value: False switches every wrapper to training, regardless of its setting.

    Returns:
      A cell with the same weights.

    Example:
      >>> import jaxnorm
      >>> cell = jaxnorm.Zoneout(jaxnorm.ln_lstm(4), rate=0.1)
      >>> jaxnorm.deterministic(cell).deterministic, jaxnorm.deterministic(jaxnorm.gru(4)) == jaxnorm.gru(4)
      (True, True)
    """
    check_cell("deterministic", "cell", cell)
    spec: Any = cell
    changes: dict[str, Any] = {}
    if (inner := inner_cell(cell)) is not None:
        changes["cell"] = deterministic(inner, value=value)
    if dataclasses.is_dataclass(cell) and "deterministic" in {field.name for field in dataclasses.fields(spec)}:
        changes["deterministic"] = value
    return cast(C, dataclasses.replace(spec, **changes)) if changes else cell


def inner_cell(cell: Any) -> Any:
    """Returns the cell that a spec holds in its field ``cell``, as every wrapper does; None if it wraps none."""
    inner = getattr(cell, "cell", None)  # a user's wrapper need not derive from CellWrapper
    return inner if is_one(inner, Cell) else None


def unwrap(cell: Any) -> Any:
    """Returns the innermost cell, the one that wraps no other."""
    inner = inner_cell(cell)
    return cell if inner is None else unwrap(inner)


def map_inner(cell: Any, change: Callable[[Any], Any]) -> Any:
    """Applies ``change`` to the innermost cell and keeps its wrappers."""
    inner = inner_cell(cell)
    return change(cell) if inner is None else dataclasses.replace(cell, cell=map_inner(inner, change))


def carry_shapes(cell: Cell, batch_shape: tuple[int, ...]) -> Any:
    """Returns shapes and dtypes of a cell's state, without the count of steps."""
    key = jax.eval_shape(jax.random.key, 0)
    carry = jax.eval_shape(lambda key: cell.initial_carry(batch_shape, key=key), key)
    return carry.carry if isinstance(carry, CountedCarry) else carry
