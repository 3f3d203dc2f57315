"""Wrappers from cell to cell: what they have in common, and the switch between training and test.

A wrapper is a spec like the cell in it. It has that cell's statistics and carries, and, where it draws masks, its
weights, so that both can be exchanged for one another; and it changes some of its verbs.
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
    """The weights that a cell has ready for a sequence, with the masks that a wrapper around it has drawn."""

    ready: Ready
    masks: Any


@dataclasses.dataclass(frozen=True)
class Around(NoModule):
    """The common part of cells around cells: every verb is that of the cell inside. Not a cell itself.

    Attributes:
      cell: any cell, also one that is wrapped already.
    """

    cell: Cell

    def __post_init__(self) -> None:
        check_cell(type(self).__name__, "cell", self.cell)

    @property
    def draws(self) -> bool:
        """Whether a cell inside needs a key for its masks."""
        return draws(self.cell)

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites."""
        return cast(CellNorms, innermost(self.cell).sites)

    @property
    def kernel_axes(self) -> Mapping[str, Axis]:
        """The axes over which the inputs of a unit lie, for each kernel of the cell inside, by its name."""
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
        """Fresh weights of the cell inside."""
        return self.cell.init(key, in_features)

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Running statistics of the cell inside."""
        return self.cell.initial_stats(dtype)

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> Carry:
        """The carry of the cell inside before the first step."""
        return self.cell.initial_carry(batch_shape, params=params, key=key, dtype=dtype)

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """What the cell inside does with its weights, once a sequence."""
        return self.cell.prepare(params, dtype)

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws what is random for a whole sequence."""
        return self.cell.sample(ready, batch_shape, key)

    def project(
        self, ready: Ready, xs: Float[Array, "T *B I"], stats: Stats | None, where: Bool[Array, "T *B"] | None
    ) -> tuple[Float[Array, "..."], Stats]:
        """The input products of all steps."""
        return self.cell.project(ready, xs, stats, where)

    def recur(self, ready: Ready, carry: Carry) -> Float[Array, "..."]:
        """The recurrent product."""
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
        """The rest of a step."""
        return self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, key_t)

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds moments into running statistics, by the rule of the cell inside."""
        return self.cell.update_running(stats, moments)


@dataclasses.dataclass(frozen=True)
class Wrapper(Around):
    """The common part of wrappers that draw masks; every verb is that of the cell inside. Not a cell itself.

    Attributes:
      cell: any cell, also one that is wrapped already.
      deterministic: whether it computes expectations, as at test time, instead of drawing masks.
    """

    _: dataclasses.KW_ONLY
    deterministic: bool = False

    rates: ClassVar[tuple[str, ...]] = ("rate",)
    """The fields that hold probabilities; if all are zero nothing is drawn."""
    below_one: ClassVar[bool] = False
    """Whether rates must be less than one, since what is left is scaled up."""

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
        """Whether this wrapper or a cell inside needs a key for its masks."""
        return self.active or draws(self.cell)

    def keys(self, key: Key | None) -> tuple[Key | None, Key | None]:
        """A key for this wrapper (None where it draws nothing) and one for the cell inside.

        Raises ValueError where a key is needed and missing.
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
        """Draws what is random for a whole sequence."""
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
        """The rest of a step."""
        return self.cell.step(ready, carry, z_t, a_t, stats_t, where_t, key_pair(key_t)[1])


def deterministic(cell: C, *, value: bool = True) -> C:
    """The same cell as it is used at test time: every wrapper in it computes expectations, and needs no key.

    Args:
      cell: any cell, wrapped or not; one without wrappers comes back as it is.
      value: False switches every wrapper to training, whatever it was set to.

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
    """The cell that a spec is around, be it a wrapper of this file or another one; None if it is around none."""
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
    """The axes over which the inputs of a unit lie, for the kernels of which the cell says it."""
    axes: Mapping[str, Axis] = getattr(cell, "kernel_axes", {})
    return axes


def innermost(cell: Any) -> Any:
    """The cell that is around no other."""
    inner = inside(cell)
    return cell if inner is None else innermost(inner)


def change_innermost(cell: Any, change: Callable[[Any], Any]) -> Any:
    """The same wrappers around another cell."""
    inner = inside(cell)
    return change(cell) if inner is None else dataclasses.replace(cell, cell=change_innermost(inner, change))


def innermost_ready(ready: Ready) -> Any:
    """What the cell inside of all wrappers has ready."""
    while isinstance(ready, Drawn):
        ready = ready.ready
    return ready


def change_ready(ready: Ready, change: Callable[[Any], Any]) -> Ready:
    """The same masks around other weights."""
    if isinstance(ready, Drawn):
        return ready._replace(ready=change_ready(ready.ready, change))
    return change(ready)


def carry_shapes(cell: Cell, batch_shape: tuple[int, ...]) -> Any:
    """Shapes and dtypes of the state of a cell, without the count of steps."""
    key = jax.eval_shape(jax.random.key, 0)
    carry = jax.eval_shape(lambda key: cell.initial_carry(batch_shape, key=key), key)
    return carry.carry if isinstance(carry, CountedCarry) else carry
