"""Variables of NNX modules: declares trees of weights and statistics by name, reads them and writes them back."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
from flax import nnx

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import refuse_keyword
from jaxnorm._base.paths import option_finder, paths
from jaxnorm._base.typing import Array, PRNGKeyArray, PyTree, Shaped
from jaxnorm._shared.layers import (
    by_cell,
    by_name,
    cell_of,
    cell_template,
    initial_statistics,
    named_statistics,
    statistics_of,
)
from jaxnorm._shared.names import check_mesh_axes, fill, to_names
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers.base import deterministic as set_deterministic
from jaxnorm.engine.layers import PLAIN, Cells, Wiring, all_cells, init_cells, map_cells, update_layers

Randomness: TypeAlias = nnx.Rngs | nnx.RngStream | PRNGKeyArray | Shaped[Array, "2"]
Metadata: TypeAlias = Mapping[str, Any]

SHARDING = "out_sharding"
"""The metadata that hold the names of mesh axes."""

MASKS = "dropout"
"""The random stream of the masks."""


def key(caller: str, rngs: Any, stream: str) -> Array:
    """Returns one key: the given key, or the next one of a stream."""
    if isinstance(rngs, nnx.Rngs):
        rngs = rngs[stream]
    one: Array = rngs() if isinstance(rngs, nnx.RngStream) else rngs
    validate.key(caller, "rngs", one)
    return one


def switched(module: Any, deterministic: bool | None) -> Cells:
    """Returns the cells in training or evaluation mode: the call decides, else the attribute, else the spec."""
    value = module.deterministic if deterministic is None else deterministic
    cells: Cells = module.cell
    return cells if value is None else map_cells(lambda cell: set_deterministic(cell, value=value), cells)


def mask_key(module: Any, cells: Cells, rngs: Any, other: str | None) -> Array | None:
    """Returns a key of the stream ``dropout`` for cells that draw masks, else of the stream ``other``, if any.

    Where the call has no randomness, masks are drawn from the stream that the module keeps.
    """
    drawing = [type(cell).__name__ for cell in all_cells(cells) if hooks(cell).needs_key]
    if drawing and rngs is None:
        rngs = getattr(module, "rngs", None)
    if drawing and rngs is None:
        call = " or rngs to the call" if other else ""
        raise ValueError(
            f"{type(module).__name__}: {drawing[0]} draws masks and needs randomness, but there are no rngs. Pass rngs "
            f"that have streams (nnx.Rngs) to the constructor{call}, or set deterministic=True or call eval() for "
            "evaluation."
        )
    stream = MASKS if drawing else other
    return None if rngs is None or stream is None else key(type(module).__name__, rngs, stream)


def keep_stream(module: Any, rngs: Any) -> None:
    """Keeps a copy of the stream ``dropout``, so that cells can draw masks in calls without randomness."""
    if not any(hooks(set_deterministic(cell, value=False)).needs_key for cell in all_cells(module.cell)):
        return
    stream = rngs[MASKS] if isinstance(rngs, nnx.Rngs) else rngs
    if isinstance(stream, nnx.RngStream):
        module.rngs = stream.fork()


def declare(
    module: nnx.Module, params: PyTree, stats: PyTree, metadata: Mapping[str, Metadata], cells: Cells | None = None
) -> None:
    """Creates a variable for each leaf, under its path of names; for cells it checks the names of mesh axes."""
    suffix = "_metadata"
    alias = {"recurrent_kernel": "recurrent"}
    unknown = [name for name in metadata if not name.endswith(suffix)]
    if unknown:
        known = inspect.signature(type(module).__init__).parameters
        refuse_keyword(type(module).__name__, unknown, known, foreign_keywords.FLAX)
    named = {name.removesuffix(suffix): value for name, value in metadata.items()}
    to_names(params)  # raises if a weight has none
    leaves = paths(params)
    find = option_finder(
        type(module).__name__, {alias.get(name, name): value for name, value in named.items()}, [p for p, _ in leaves]
    )
    for name in {path[0]: None for path, _ in leaves if path}:
        if hasattr(module, name):
            raise ValueError(
                f"{type(module).__name__}: a weight cannot have the name {name!r}, which is an attribute of the "
                "module. Let params_init rename it."
            )
    for path, leaf in leaves:
        own = find(path) or {}
        if cells is not None:
            cell = cell_of(cells, path)
            check_mesh_axes(type(module).__name__, SHARDING, cell, path, leaf.shape, own.get(SHARDING))
        _place(module, path, nnx.Param(leaf, **own))
    for path, leaf in paths(stats):
        _place(module, path, nnx.BatchStat(leaf))


def _place(module: Any, path: tuple[str, ...], variable: nnx.Variable[Array]) -> None:
    *branches, last = path
    for name in branches:
        if not hasattr(module, name):
            setattr(module, name, nnx.Dict())
        module = getattr(module, name)
    setattr(module, last, variable)


def _variable(module: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        module = getattr(module, name)
    return module


def read(module: nnx.Module, template: PyTree) -> PyTree:
    """Reads the values of variables into the structure of ``template``."""
    return fill(template, lambda path: _variable(module, path)[...])


def write(module: nnx.Module, stats: PyTree) -> None:
    """Sets the variables that hold a tree of statistics."""
    for path, leaf in paths(stats):
        _variable(module, path).set_value(leaf)


def replace(module: nnx.Module, tree: PyTree) -> None:
    """Puts new variables with given values, and the metadata of the old ones, into the place of these."""
    for path, leaf in paths(tree):
        old = _variable(module, path)
        _place(module, path, type(old)(leaf, **old.get_metadata()))


def declare_cells(module: Any, key: Any, metadata: Mapping[str, Metadata], wiring: Wiring = PLAIN) -> None:
    """Draws the weights of the module's cells and declares them and their statistics."""
    cells: Cells = module.cell
    params = init_cells(cells, key, module.in_features, wiring)
    declare(module, by_name(cells, params), initial_statistics(cells), metadata, cells)


def weights(module: Any, wiring: Wiring = PLAIN) -> PyTree:
    """Reads the weights of the module's cells, in the structure of the spec."""
    cells: Cells = module.cell
    return by_cell(cells, read(module, cell_template(cells, module.in_features, wiring)))


class OfCell:
    """Mixin for modules that wrap cells."""

    spec_name = "cell"

    def empty_statistics(self) -> PyTree:
        """Makes statistics before any data, in the structure of the variables."""
        module: Any = self
        return initial_statistics(module.cell)


class OfNorm:
    """Mixin for modules that wrap a normalizer."""

    spec_name = "spec"

    def empty_statistics(self) -> PyTree:
        """Makes statistics before any data, in the structure of the variables."""
        module: Any = self
        return module.spec.initial_stats(module.param_shape)


def statistics(module: Any) -> PyTree:
    """Reads the running statistics of a module, in the structure of its variables."""
    return read(module, module.empty_statistics())


def running(module: Any) -> PyTree:
    """Reads the running statistics of a module's cells, in the structure of the spec."""
    return statistics_of(module.cell, statistics(module))


def fold_cells(module: Any, running: PyTree, moments: PyTree) -> None:
    """Folds the moments of a call into the running statistics."""
    cells: Cells = module.cell
    write(module, named_statistics(cells, update_layers(cells, running, moments)))


def use_running(module: Any, stats: PyTree, value: bool | None) -> bool:
    """Whether to use running statistics: the call decides, else the attribute; False if there are none."""
    if not jax.tree.leaves(stats):
        return False
    use = module.use_running_average if value is None else value
    if use is None:
        raise ValueError(
            f"{type(module).__name__}: nothing says whether to use running statistics. Pass use_running_average to the "
            "constructor or to the call, or call train() or eval()."
        )
    return bool(use)


def set_view(module: Any, use_running_average: bool | None, deterministic: bool | None = None) -> None:
    """Sets the attributes that ``train``, ``eval`` and ``set_attributes`` of Flax pass, unless None."""
    if use_running_average is not None:
        module.use_running_average = use_running_average
    if deterministic is not None:
        module.deterministic = deterministic
