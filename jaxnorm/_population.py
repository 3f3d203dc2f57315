"""What the population statistics of linen and of NNX share: who takes part, and how a call leaves what it measured."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, final

import jax
import jax.numpy as jnp

from jaxnorm import _objects
from jaxnorm._typing import PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.cells.wrappers.base import Around
from jaxnorm.norms.base import TrainsByMeasuring
from jaxnorm.norms.core.moments import Moments, is_moments, map_moments, merge, spread
from jaxnorm.norms.core.running import population


@final
@dataclasses.dataclass(frozen=True)
class Measuring(Around):
    """A cell that puts what is measured together, instead of averaging it over calls."""

    def update_running(self, stats: PyTree, moments: PyTree) -> PyTree:
        """Everything that was measured since ``count`` was zero, exactly."""
        return map_moments(merge, stats, moments)


def measuring(spec: Any, stats: PyTree) -> Any:
    """The spec that puts what it measures into statistics with count zero; None for one that takes no part.

    Parts are taken by cells and normalizers with means and variances whose training does not look at running ones.
    """
    leaves = jax.tree.leaves(stats, is_leaf=is_moments)
    if not leaves or not all(map(is_moments, leaves)):
        return None
    if isinstance(spec, Cell):
        return Measuring(spec)
    fields = {field.name for field in dataclasses.fields(spec)} if dataclasses.is_dataclass(spec) else set()
    if "momentum" not in fields or getattr(type(spec), "train", None) is not TrainsByMeasuring.train:
        return None
    exact = {"momentum": None, "ddof": 0, "debias": False}
    return dataclasses.replace(spec, **{name: value for name, value in exact.items() if name in fields})


def nothing_measured(stats: PyTree) -> PyTree:
    """Statistics of these shapes before any data."""
    return map_moments(lambda m: Moments(jnp.zeros_like(m.mean), jnp.ones_like(m.var), jnp.zeros_like(m.count)), stats)


def average(caller: str, running: PyTree, measured: Iterable[PyTree], ddof: int) -> PyTree:
    """Population statistics of what was measured; entries that no batch has seen stay as they were."""
    found = population(measured, ddof=ddof)
    if not any(jnp.any(m.count > 0) for m in jax.tree.leaves(found, is_leaf=is_moments)):
        refuse_nothing(caller)

    def keep(new: Moments, old: Moments) -> Moments:
        seen = new.count > 0
        return Moments(*(jnp.where(spread(seen, a), a, b) for a, b in zip(new, old, strict=True)))

    return map_moments(keep, found, running)


def refuse_nothing(caller: str) -> NoReturn:
    """Raises the error for calls that measure nothing."""
    raise ValueError(
        f"{caller}: no module with batch statistics measured anything. Let the call train, by "
        "use_running_average=False or by what the model has in its place (train=True)."
    )


def calls(caller: str, batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """The arguments of one call after the other, of which there is at least one; a tuple holds several."""
    if isinstance(batches, str | bytes | Mapping) or not hasattr(batches, "__iter__"):
        raise TypeError(
            f"{caller}: batches must be an iterable of the inputs of each batch, got {_objects.describe(batches)}. "
            "Write [xs] for a single one."
        )
    some = False
    for batch in batches:
        some = True
        yield batch if isinstance(batch, tuple) else (batch,)
    if not some:
        raise ValueError(f"{caller}: batches is empty. Pass the inputs of at least one batch.")
