"""The common base of cell wrappers, and the switch between training and evaluation.

A wrapper is a spec like the cell it wraps, and overrides some of its methods. It keeps the statistics and carries of
that cell. A wrapper that draws masks also keeps its weights, so you can exchange the cell and the wrapped cell.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import jax

from jaxnorm import _validate
from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Axis, Bool, DTypeLike, Float
from jaxnorm.cells.base import Carry, Cell, CellNorms, CountedCarry, Key, Ready, check_cell
from jaxnorm.cells.no_module import NoModule
from jaxnorm.cells.wrappers.randomness import key_pair
from jaxnorm.norms.base import Params, Stats

C = TypeVar("C")


class Drawn(NamedTuple):
    """The prepared weights of a cell, with the masks that its wrapper drew for a sequence."""

    ready: Ready
    masks: Any


@dataclasses.dataclass(frozen=True)
class Around(NoModule):
    """The common base of wrappers: every method calls the inner cell's. Not a cell itself.

    Attributes:
      cell: any cell, including one that is already wrapped.
    """

    cell: Cell

    def __post_init__(self) -> None:
        check_cell(type(self).__name__, "cell", self.cell)

    @property
    def draws(self) -> bool:
        """Whether an inner cell needs a key for its masks."""
        return draws(self.cell)

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites."""
        return cast(CellNorms, innermost(self.cell).sites)

    @property
    def kernel_axes(self) -> Mapping[str, Axis]:
        """The axes that hold the inputs of a unit, for each kernel of the inner cell, keyed by its name."""
        return known_axes(self.cell)

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

    def init(self, key: Key, in_features: int) -> Params:
        """Makes fresh weights of the inner cell."""
        return self.cell.init(key, in_features)

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Makes running statistics of the inner cell."""
        return self.cell.initial_stats(dtype)

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> Carry:
        """Makes the initial carry of the inner cell."""
        return self.cell.initial_carry(batch_shape, params=params, key=key, dtype=dtype)

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """Prepares the weights of the inner cell, once a sequence."""
        return self.cell.prepare(params, dtype)

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws the masks that all steps of a sequence share."""
        return self.cell.sample(ready, batch_shape, key)

    def project(
        self, ready: Ready, xs: Float[Array, "T *B I"], stats: Stats | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "..."], Stats]:
        """Computes the input products of all steps."""
        return self.cell.project(ready, xs, stats, where)

    def recur(self, ready: Ready, carry: Carry) -> Float[Array, "..."]:
        """Computes the recurrent product."""
        return self.cell.recur(ready, carry)

    def step(
        self,
        ready: Ready,
        carry: Carry,
        z_t: Float[Array, "..."],
        a_t: Float[Array, "..."],
        stats_t: Stats | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Does the rest of a step."""
        return self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, key_t)

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds moments into running statistics, by the rule of the inner cell."""
        return self.cell.update_running(stats, moments)


@dataclasses.dataclass(frozen=True)
class Wrapper(Around):
    """The common base of wrappers that draw masks; every method calls the inner cell's. Not a cell itself.

    Attributes:
      cell: any cell, including one that is already wrapped.
      deterministic: whether it computes expectations, as in evaluation, instead of drawing masks.
    """

    _: dataclasses.KW_ONLY
    deterministic: bool = False

    rates: ClassVar[tuple[str, ...]] = ("rate",)
    """The fields that hold probabilities; if all are zero, the wrapper draws nothing."""
    below_one: ClassVar[bool] = False
    """Whether rates must be less than one, since the wrapper scales up the elements it keeps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        for name in self.rates:
            value = getattr(self, name)
            _validate.in_range(where, name, value, 0.0, 1.0)
            if self.below_one and value == 1.0:
                raise ValueError(f"{where}: {name} must be below 1, got {value!r}: nothing would be left to scale up.")

    @property
    def active(self) -> bool:
        """Whether this wrapper itself draws masks."""
        return not self.deterministic and any(getattr(self, name) > 0.0 for name in self.rates)

    @property
    def draws(self) -> bool:
        """Whether this wrapper or an inner cell needs a key for its masks."""
        return self.active or draws(self.cell)

    def keys(self, key: Key | None) -> tuple[Key | None, Key | None]:
        """Returns a key for this wrapper (None if it draws nothing) and one for the inner cell.

        Raises ValueError if it needs a key and has none.
        """
        if key is None and self.active:
            rates = ", ".join(f"{name}={getattr(self, name)}" for name in self.rates if getattr(self, name) > 0.0)
            raise ValueError(
                f"{type(self).__name__}: {rates} needs randomness, but key is None. Pass key=jax.random.key(...), or "
                "jaxnorm.deterministic(cell) for evaluation."
            )
        own, inner = key_pair(key)
        return own if self.active else None, inner

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws the masks that all steps of a sequence share."""
        return self.cell.sample(ready, batch_shape, self.keys(key)[1])

    def step(
        self,
        ready: Ready,
        carry: Carry,
        z_t: Float[Array, "..."],
        a_t: Float[Array, "..."],
        stats_t: Stats | None,
        where_t: Bool[Array, "*B"] | None,
        key_t: Key | None,
    ) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Does the rest of a step."""
        return self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, key_pair(key_t)[1])


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
    if (inner := inside(cell)) is not None:
        changes["cell"] = deterministic(inner, value=value)
    if dataclasses.is_dataclass(cell) and "deterministic" in {field.name for field in dataclasses.fields(spec)}:
        changes["deterministic"] = value
    return cast(C, dataclasses.replace(spec, **changes)) if changes else cell


def inside(cell: Any) -> Any:
    """Returns the cell that a spec wraps, whether or not the wrapper derives from this file; None if it wraps none."""
    inner = getattr(cell, "cell", None)
    return inner if isinstance(inner, Cell) else None


def draws(cell: Any) -> bool:
    """Whether a cell needs a key for masks."""
    own = getattr(cell, "draws", None)
    if own is not None:
        return bool(own)
    inner = inside(cell)
    return inner is not None and draws(inner)


def known_axes(cell: Cell) -> Mapping[str, Axis]:
    """The axes that hold the inputs of a unit, for the kernels for which the cell declares them."""
    axes: Mapping[str, Axis] = getattr(cell, "kernel_axes", {})
    return axes


def innermost(cell: Any) -> Any:
    """Unwraps a cell down to the one that wraps no other."""
    inner = inside(cell)
    return cell if inner is None else innermost(inner)


def change_innermost(cell: Any, change: Callable[[Any], Any]) -> Any:
    """Applies ``change`` to the innermost cell and keeps its wrappers."""
    inner = inside(cell)
    return change(cell) if inner is None else dataclasses.replace(cell, cell=change_innermost(inner, change))


def innermost_ready(ready: Ready) -> Any:
    """Returns the prepared weights of the innermost cell."""
    while isinstance(ready, Drawn):
        ready = ready.ready
    return ready


def change_ready(ready: Ready, change: Callable[[Any], Any]) -> Ready:
    """Applies ``change`` to the innermost weights and keeps the masks around them."""
    if isinstance(ready, Drawn):
        return ready._replace(ready=change_ready(ready.ready, change))
    return change(ready)


def carry_shapes(cell: Cell, batch_shape: tuple[int, ...]) -> Any:
    """Returns shapes and dtypes of a cell's state, without the count of steps."""
    key = jax.eval_shape(jax.random.key, 0)
    carry = jax.eval_shape(lambda key: cell.initial_carry(batch_shape, key=key), key)
    return carry.carry if isinstance(carry, CountedCarry) else carry
