"""Names of the layers and directions of a module: ``layers_0``, ``layers_1``; ``forward``, ``backward``.

The variables of a single cell have no such prefix.
"""

from collections.abc import Iterator
from typing import Any

import jax

from jaxnorm._base.paths import Path
from jaxnorm._base.typing import Axis, PyTree
from jaxnorm._shared.names import cached
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.layers import PLAIN, Cells, Wiring, init_cells, map_cells
from jaxnorm.engine.stacks import Directions

SITES = "norm"
"""The name of a cell's running statistics, the same as that of its normalizers' weights."""


def _parts(cells: Any) -> dict[str, Any]:
    """Returns the parts of a spec of several cells, by name."""
    if isinstance(cells, Directions):
        return cells._asdict()
    return {f"layers_{number}": layer for number, layer in enumerate(cells)}


def by_name(cells: Cells, tree: PyTree) -> PyTree:
    """Converts a tree with the structure of the spec to nested dicts; the entries of the cells stay as they are."""
    if not isinstance(cells, tuple):
        return tree
    entries = zip(_parts(cells).items(), tree, strict=True)
    return {name: by_name(part, entry) for (name, part), entry in entries}


def by_cell(cells: Cells, named: PyTree) -> PyTree:
    """Converts nested dicts back to the structure of the spec."""
    if not isinstance(cells, tuple):
        return named
    entries = (by_cell(part, named[name]) for name, part in _parts(cells).items())
    return Directions(*entries) if isinstance(cells, Directions) else tuple(entries)


def prefixes(cells: Cells) -> Iterator[tuple[Path, Cell]]:
    """Yields each cell with the names before its variables."""
    if not isinstance(cells, tuple):
        yield (), cells
        return
    for name, part in _parts(cells).items():
        for rest, cell in prefixes(part):
            yield (name, *rest), cell


def cell_of(cells: Cells, path: Path) -> Cell:
    """Returns the cell that has the variable at a path."""
    return next(cell for prefix, cell in prefixes(cells) if path[: len(prefix)] == prefix)


def kernel_axes(cells: Any) -> dict[Path, Axis]:
    """The axes that hold the inputs of a unit, by the path of each kernel; empty for anything but cells."""
    if not isinstance(cells, Cell | tuple):
        return {}
    return {(*prefix, name): axis for prefix, cell in prefixes(cells) for name, axis in hooks(cell).kernel_axes.items()}


@cached
def cell_template(cells: Cells, in_features: int, wiring: Wiring = PLAIN) -> PyTree:
    """The weights of all cells by name, with shapes and dtypes as leaves."""
    key = jax.eval_shape(jax.random.key, 0)
    return by_name(cells, jax.eval_shape(lambda key: init_cells(cells, key, in_features, wiring), key))


def initial_statistics(cells: Cells) -> PyTree:
    """Makes statistics before any data, by name."""
    return by_name(cells, map_cells(lambda cell: {SITES: cell.initial_stats()}, cells))


def named_statistics(cells: Cells, stats: PyTree) -> PyTree:
    """Converts statistics of all cells to those by name."""
    return by_name(cells, map_cells(lambda cell, own: {SITES: own}, cells, stats))


def statistics_of(cells: Cells, named: PyTree) -> PyTree:
    """Converts statistics by name to the structure of the spec."""
    return map_cells(lambda cell, own: own[SITES], cells, by_cell(cells, named))
