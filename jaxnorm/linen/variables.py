"""Variables of linen modules: declares trees of weights and statistics by name, reads them and writes them back."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import flax.linen as nn
import jax

from jaxnorm._base.paths import option_finder, paths
from jaxnorm._base.specs import without_axis_name
from jaxnorm._base.typing import Array, PyTree
from jaxnorm._shared.layers import (
    by_cell,
    by_name,
    cell_of,
    cell_template,
    initial_statistics,
    named_statistics,
    statistics_of,
)
from jaxnorm._shared.names import check_mesh_axes, from_names, to_names
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers.base import deterministic as set_deterministic
from jaxnorm.engine.layers import PLAIN, Cells, Wiring, all_cells, init_cells, map_cells, update_layers
from jaxnorm.linen.population_statistics import rule

Partitioning: TypeAlias = Mapping[str, tuple[str | None, ...]]
"""Names of mesh or logical axes for variables: ``{"kernel": (None, None, "model")}``."""

PARAMS, STATS, MASKS = "params", "batch_stats", "dropout"


def cell_weights(module: Any, in_features: int, wiring: Wiring = PLAIN) -> PyTree:
    """Declares the weights of all cells and returns them in the structure of the spec."""
    cells: Cells = module.cell

    def init(key: Any) -> PyTree:
        return by_name(cells, init_cells(cells, key, in_features, wiring))

    return by_cell(cells, weights(module, cell_template(cells, in_features, wiring), init, cells))


def cells_and_key(module: Any, deterministic: bool | None) -> tuple[Cells, Any]:
    """Returns the cells in training or evaluation mode, and a key if one of them draws masks."""
    cells: Cells = module.cell
    if module.deterministic is not None or deterministic is not None:
        value = nn.merge_param("deterministic", module.deterministic, deterministic)
        cells = map_cells(lambda cell: set_deterministic(cell, value=value), cells)
    draws = any(hooks(cell).needs_key for cell in all_cells(cells))
    return in_place(module, cells), module.make_rng(MASKS) if draws else None


def in_place(module: Any, spec: Any) -> Any:
    """Returns the spec to compute with: like the modules of Flax, without ``axis_name`` in initialization."""
    return without_axis_name(spec) if module.is_initializing() else spec


def weights(module: Any, template: PyTree, init: Callable[[Any], PyTree], cells: Cells | None = None) -> PyTree:
    """Declares the weights, one variable per field, and returns them as the NamedTuples of the spec."""
    partition = option_finder(type(module).__name__, module.partitioning, [path for path, _ in paths(template)])

    def boxed(key: Any) -> dict[str, Any]:
        def box(path: Any, leaf: Array) -> Any:
            own = tuple(entry.key for entry in path)
            axes = partition(own)
            if axes is None:
                return leaf
            if cells is not None:
                check_mesh_axes(type(module).__name__, "partitioning", cell_of(cells, own), own, leaf.shape, axes)
            return nn.Partitioned(leaf, names=axes)

        weights: dict[str, Any] = jax.tree_util.tree_map_with_path(box, to_names(init(key)))
        return weights

    names = list(to_names(template))
    missing = any(not module.has_variable(PARAMS, name) for name in names)
    # Draw all weights at once, so that they equal those of ``cell.init`` with this key.
    fresh = boxed(module.make_rng(PARAMS)) if missing and module.is_mutable_collection(PARAMS) else None

    def declare(name: str) -> Any:
        return module.param(name, lambda key: (boxed(key) if fresh is None else fresh)[name])

    return from_names(template, {name: declare(name) for name in names})


class Statistics:
    """The running statistics of a module: one variable per field, read and written as the tuples of the spec."""

    def __init__(self, module: Any, initial: PyTree) -> None:
        start = to_names(initial)
        if start and not module.is_mutable_collection(STATS) and not module.has_variable(STATS, next(iter(start))):
            raise ValueError(
                f"{type(module).__name__}: there are no {STATS!r} here, and none can be made. Pass the variables of "
                f"init to apply; inside flax.linen.RNN also "
                f"give variable_carry={STATS!r} (or, for inference only, variable_broadcast=('params', {STATS!r}))."
            )
        self._initializing = module.is_initializing()
        self._initial = initial
        self._variables = {name: module.variable(STATS, name, lambda name=name: start[name]) for name in start}

    @property
    def exist(self) -> bool:
        """Whether there are any."""
        return bool(self._variables)

    @property
    def value(self) -> PyTree:
        """The statistics, in the structure of the variables."""
        return from_names(self._initial, {name: variable.value for name, variable in self._variables.items()})

    def update(self, change: Callable[[PyTree], PyTree]) -> None:
        """Writes changed statistics back, except in initialization."""
        if self._variables and not self._initializing:
            changed = to_names(change(self.value))
            for name, variable in self._variables.items():
                variable.value = changed[name]


class CellStatistics(Statistics):
    """The running statistics of all cells of a module."""

    def __init__(self, module: Any) -> None:
        super().__init__(module, initial_statistics(module.cell))
        self._module = module

    @property
    def of_cells(self) -> PyTree:
        """The statistics of the cells, site by site."""
        return statistics_of(self._module.cell, self.value)

    def fold(self, moments: PyTree) -> None:
        """Folds the moments of a call into the running statistics."""
        cells = self._module.cell

        def folded(running: PyTree) -> PyTree:
            stats = statistics_of(cells, running)
            return named_statistics(cells, update_layers(rule(self._module, cells, stats), stats, moments))

        self.update(folded)
