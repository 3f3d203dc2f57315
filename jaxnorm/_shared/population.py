"""The common part of population statistics in linen and NNX: which specs take part, and how to collect measurements."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, final

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.typing import PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.cells.wrappers.base import CellWrapper
from jaxnorm.engine.layers import map_cells
from jaxnorm.norms.base import TrainsByMeasuring
from jaxnorm.norms.core.moment_trees import is_moments, map_moments
from jaxnorm.norms.core.moments import Moments, merge, spread
from jaxnorm.norms.core.running import population


@final
@dataclasses.dataclass(frozen=True)
class Measuring(CellWrapper):
    """A cell that merges the statistics of all calls, instead of averaging over calls."""

    def update_running(self, stats: PyTree, moments: PyTree) -> PyTree:
        """Returns the exact statistics of all data since ``count`` was zero."""
        return map_moments(merge, stats, moments)


def measuring(spec: Any, stats: PyTree) -> Any:
    """Returns a spec that merges its measurements exactly; None for a spec that does not take part.

    Cells and normalizers take part if their statistics are means and variances, and if training does not use running
    statistics.
    """
    leaves = jax.tree.leaves(stats, is_leaf=is_moments)
    if not leaves or not all(map(is_moments, leaves)):
        return None
    if isinstance(spec, Cell | tuple):
        return map_cells(Measuring, spec)
    fields = {field.name for field in dataclasses.fields(spec)} if dataclasses.is_dataclass(spec) else set()
    if "momentum" not in fields or getattr(type(spec), "train", None) is not TrainsByMeasuring.train:
        return None
    exact = {"momentum": None, "ddof": 0, "debias": False}
    return dataclasses.replace(spec, **{name: value for name, value in exact.items() if name in fields})


def nothing_measured(stats: PyTree) -> PyTree:
    """Empty statistics of these shapes."""
    return map_moments(lambda m: Moments(jnp.zeros_like(m.mean), jnp.ones_like(m.var), jnp.zeros_like(m.count)), stats)


def average(caller: str, running: PyTree, measured: Iterable[PyTree], ddof: int) -> PyTree:
    """Averages measured statistics into population statistics; entries that no batch has seen do not change."""
    found = population(measured, ddof=ddof)
    if not any(jnp.any(m.count > 0) for m in jax.tree.leaves(found, is_leaf=is_moments)):
        refuse_nothing(caller)

    def keep(new: Moments, old: Moments) -> Moments:
        seen = new.count > 0
        return Moments(*(jnp.where(spread(seen, a), a, b) for a, b in zip(new, old, strict=True)))

    return map_moments(keep, found, running)


def refuse_nothing(caller: str) -> NoReturn:
    """Raises the error for calls that measured nothing."""
    raise ValueError(
        f"{caller}: no module with batch statistics measured anything. Let the call train, by "
        "use_running_average=False or by what the model has in its place (train=True)."
    )


def calls(caller: str, batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yields the arguments of each call; a tuple holds several arguments. Raises if there is no call."""
    if isinstance(batches, str | bytes | Mapping) or not hasattr(batches, "__iter__"):
        raise TypeError(
            f"{caller}: batches must be an iterable of the inputs of each batch, got {objects.describe(batches)}. "
            "Write [xs] for a single one."
        )
    some = False
    for batch in batches:
        some = True
        yield batch if isinstance(batch, tuple) else (batch,)
    if not some:
        raise ValueError(f"{caller}: batches is empty. Pass the inputs of at least one batch.")
