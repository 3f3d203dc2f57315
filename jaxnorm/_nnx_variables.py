"""Variables of NNX modules: trees of weights and statistics laid down under their names, read and written back."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
from flax import nnx

from jaxnorm._names import cell_template, fill, option_finder, paths
from jaxnorm._typing import Array, PyTree
from jaxnorm.cells.base import Carry, Timed

Metadata: TypeAlias = Mapping[str, Any]

SITES = "norm"
"""Where a cell's running statistics lie: beside the weights of its normalizers."""


def key(rngs: Any, stream: str) -> Array:
    """One key: the given one, or the next one of a stream."""
    if isinstance(rngs, nnx.Rngs):
        rngs = rngs[stream]
    return rngs() if isinstance(rngs, nnx.RngStream) else rngs


def declare(module: nnx.Module, params: PyTree, stats: PyTree, metadata: Mapping[str, Metadata]) -> None:
    """Makes a variable for each leaf, under its names."""
    suffix = "_metadata"
    alias = {"recurrent_kernel": "recurrent"}
    unknown = [name for name in metadata if not name.endswith(suffix)]
    if unknown:
        raise TypeError(f"{type(module).__name__}: unexpected argument {unknown[0]!r}.")
    named = {name.removesuffix(suffix): value for name, value in metadata.items()}
    leaves = paths(params)
    find = option_finder(
        type(module).__name__, {alias.get(name, name): value for name, value in named.items()}, [p for p, _ in leaves]
    )
    for path, leaf in leaves:
        _place(module, path, nnx.Param(leaf, **(find(path) or {})))
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
    """The values of variables in the structure of ``template``."""
    return fill(template, lambda path: _variable(module, path)[...])


def write(module: nnx.Module, stats: PyTree) -> None:
    for path, leaf in paths(stats):
        _variable(module, path).set_value(leaf)


def weights(module: Any) -> PyTree:
    return read(module, cell_template(module.cell, module.in_features))


def running(module: Any) -> PyTree:
    return read(module, {SITES: module.cell.initial_stats()})[SITES]


def fold_cell(module: Any, running: PyTree, moments: PyTree, carry: Carry | None) -> None:
    """Folds what a call measured; a carry that was handed in says at which step the call began."""
    start = carry.step if isinstance(carry, Timed) else 0
    write(module, {SITES: module.cell.fold(running, moments, start)})


def use_running(module: Any, stats: PyTree, given: bool | None) -> bool:
    """Whether running statistics are used: as the call says, else as the attribute says; never where there are none."""
    if not jax.tree.leaves(stats):
        return False
    use = module.use_running_average if given is None else given
    if use is None:
        raise ValueError(
            f"{type(module).__name__}: nothing says whether to use running statistics. Pass use_running_average to the "
            "constructor or to the call, or call train() or eval()."
        )
    return bool(use)


def set_view(module: Any, use_running_average: bool | None) -> None:
    if use_running_average is not None:
        module.use_running_average = use_running_average
