"""Cells as one spec: a cell, ``Directions`` of two cells, or a tuple with one of these for each layer.

Weights, carries, statistics and moments of such a spec have its structure.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Cell, Key
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import flax_form, give_back
from jaxnorm.engine.arguments.checks import check_steps
from jaxnorm.engine.connections import skip_stack
from jaxnorm.engine.stacks import Directions, bidirectional, check_layer, check_merge, concatenate, one_for_each, stack
from jaxnorm.engine.unroll import Unrolled, unroll

Cells: TypeAlias = Cell | Directions | tuple[Cell | Directions, ...]
"""One cell, both directions of a layer, or layers."""


class Wiring(NamedTuple):
    """How several cells are connected."""

    stack: Callable[..., Unrolled] = stack
    """Runs the layers: :func:`stack`, :func:`residual_stack` or :func:`skip_stack`, or a ``partial`` of one."""
    merge: Callable[[Array, Array], Array] = concatenate
    """Merges the outputs of both directions."""


PLAIN = Wiring()
"""The outputs of each layer are the inputs of the next; both directions are concatenated."""


def check_wiring(caller: str, cells: Cells, wiring: Wiring) -> None:
    """Raises unless there is something for ``stack`` and ``merge_fn`` to connect."""
    if not callable(wiring.stack):
        raise TypeError(f"{caller}: stack must be a function, got {objects.describe(wiring.stack)}.")
    check_merge(caller, "merge_fn", wiring.merge)
    single = isinstance(cells, Directions) or not isinstance(cells, tuple)
    layers: Any = (cells,) if single else cells
    if single and wiring.stack is not PLAIN.stack:
        raise ValueError(f"{caller}: stack connects layers, but cell is a single one. Pass a tuple or leave stack out.")
    if wiring.merge is not PLAIN.merge and not any(isinstance(layer, Directions) for layer in layers):
        raise ValueError(f"{caller}: merge_fn merges both directions, but cell has no Directions. Leave merge_fn out.")


def check_layers(caller: str, name: str, cells: Any) -> Cells:
    """Returns the spec, with layers as a tuple; raises TypeError unless it consists of cells."""
    if isinstance(cells, Directions) or not isinstance(cells, list | tuple):
        check_layer(caller, name, cells)
        one: Cells = cells
        return one
    if not cells or hasattr(cells, "_fields"):
        objects.refuse(caller, name, cells, objects.CELL)
    for number, layer in enumerate(cells):
        check_layer(caller, f"{name}[{number}]", layer)
    return tuple(cells)


def map_cells(function: Callable[..., Any], cells: Cells, *trees: PyTree) -> PyTree:
    """Calls ``function(cell, *entries)`` for each cell, with its entries in trees of the same structure."""
    if not isinstance(cells, tuple):
        return function(cells, *trees)
    results = (map_cells(function, *entries) for entries in zip(cells, *trees, strict=True))
    return Directions(*results) if isinstance(cells, Directions) else tuple(results)


def check_call(caller: str, cells: Cells, inputs: Array, time_axis: int, options: Mapping[str, Any]) -> None:
    """Checks the call of a Flax module for each cell, as :func:`check_steps` does."""
    _check_call(caller, cells, inputs, time_axis, options, "initial_carry")


def _check_call(
    caller: str, cells: Cells, inputs: Array, time_axis: int, options: Mapping[str, Any], carry_name: str
) -> None:
    if not isinstance(cells, tuple):
        return check_steps(caller, cells, inputs, time_axis, options, carry_name)
    carries = one_for_each(caller, carry_name, options["initial_carry"], len(cells))
    for number, (part, carry) in enumerate(zip(cells, carries, strict=True)):
        name = f"{carry_name}[{number}]"
        _check_call(caller, part, inputs, time_axis, {**options, "initial_carry": carry}, name)


def all_cells(cells: Cells) -> list[Cell]:
    """Lists the cells."""
    return [cell for part in cells for cell in all_cells(part)] if isinstance(cells, tuple) else [cells]


def fix_params(cells: Cells) -> bool:
    """Whether all cells say what their weights are, and so which inputs they take."""
    return all(hooks(cell).fixes_params for cell in all_cells(cells))


def give_back_each(cells: Cells, carry: PyTree, given: PyTree | None) -> PyTree:
    """Returns the carry of each cell in the form of the one that the caller passed, or of Flax where none was."""

    def one(cell: Cell, own: PyTree, old: PyTree) -> PyTree:
        return flax_form(cell, own) if old is None else give_back(own, old)

    if given is None:
        given = map_cells(lambda cell: None, cells)
    return map_cells(one, cells, carry, given)


def init_cells(cells: Cells, key: Key, in_features: int, wiring: Wiring = PLAIN) -> PyTree:
    """Makes fresh weights; each layer takes the features that the layer before it gives."""
    if not isinstance(cells, tuple):
        return cells.init(key, in_features)
    keys = jax.random.split(key, len(cells))
    if isinstance(cells, Directions):
        return Directions(*(cell.init(own, in_features) for cell, own in zip(cells, keys, strict=True)))
    beside = in_features if _shows_input_to_all(wiring.stack) else 0
    params = []
    for layer, own in zip(cells, keys, strict=True):
        params.append(init_cells(layer, own, in_features, wiring))
        in_features = _out_features(layer, wiring) + beside
    return tuple(params)


def _shows_input_to_all(function: Any) -> bool:
    options = getattr(function, "keywords", {})  # of a partial
    return getattr(function, "func", function) is skip_stack and bool(options.get("input_to_all", True))


def _out_features(layer: Cell | Directions, wiring: Wiring) -> int:
    if not isinstance(layer, Directions):
        return layer.out_features
    outputs = (jax.ShapeDtypeStruct((1, cell.out_features), "float32") for cell in layer)  # type: ignore[no-untyped-call]
    features: int = jax.eval_shape(wiring.merge, *outputs).shape[-1]
    return features


def run_cells(cells: Cells, params: PyTree, xs: Array, wiring: Wiring = PLAIN, **options: Any) -> Unrolled:
    """Runs the cells as :func:`jaxnorm.unroll` runs one; carry and statistics have the structure of the spec."""
    spec: Any = cells
    if isinstance(cells, Directions):
        return bidirectional(spec, params, xs, merge=wiring.merge, **options)
    if isinstance(cells, tuple):
        return wiring.stack(cells, params, xs, merge=wiring.merge, **options)
    return unroll(cells, params, xs, **options)


def update_layers(cells: Cells, stats: PyTree, moments: PyTree) -> PyTree:
    """Folds the moments of a call into the running statistics of every cell."""
    return map_cells(lambda cell, running, measured: cell.update_running(running, measured), cells, stats, moments)
