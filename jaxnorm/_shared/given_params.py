"""Checks weights and statistics that a Flax module gets instead of drawing them, such as converted ones."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.paths import Path, paths
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.names import norm_template
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import check_params, check_stats, same_shapes
from jaxnorm.engine.layers import Cells, Wiring, check_layers, init_cells, map_cells
from jaxnorm.engine.stacks import one_for_each
from jaxnorm.norms.base import Normalizer


def is_norm(caller: str, spec: Any) -> bool:
    """Whether a spec is a normalizer; raises TypeError unless it is one, a cell, or layers of cells."""
    if objects.is_one(spec, Normalizer):
        return True
    if hasattr(spec, "spec") and hasattr(spec, "params"):  # all that a converter returned
        raise TypeError(
            f"{caller}: spec must be a spec, got {objects.describe(spec)}. Write found.spec, found.params, found.stats."
        )
    if not objects.is_one(spec, Cell) and not isinstance(spec, list | tuple):
        objects.refuse(caller, "spec", spec, objects.SPEC)
    check_layers(caller, "spec", spec)
    return False


def given_cells(
    caller: str, cells: Cells, params: PyTree, stats: PyTree, in_features: int | None, wiring: Wiring
) -> tuple[PyTree, PyTree, int]:
    """Checks the weights and statistics of cells; returns both, and the number of input features.

    ``()`` in place of statistics are those before any data.
    """
    entries = list(_entries(caller, "params", cells, params))
    for name, cell, entry in entries:
        check_params(cell, entry, caller, name)
    _, first, weights = entries[0]
    size = hooks(first).in_features(weights) if in_features is None else in_features
    if not size:
        raise ValueError(f"{caller}: params do not tell the number of input features. Pass in_features.")
    expected = jax.eval_shape(lambda key: init_cells(cells, key, size, wiring), jax.eval_shape(jax.random.key, 0))
    for (name, _, entry), (_, _, wanted) in zip(entries, _entries(caller, "params", cells, expected), strict=True):
        same_shapes(caller, name, entry, wanted, optional=None, leading=0)
    if _is_nothing(stats):
        stats = map_cells(lambda cell: (), cells)
    for name, cell, entry in _entries(caller, "stats", cells, stats):
        if not _is_nothing(entry):
            check_stats(cell, entry, caller)
            same_shapes(caller, name, entry, jax.eval_shape(cell.initial_stats), optional=None, leading=0)
    filled = map_cells(lambda cell, own: cell.initial_stats() if _is_nothing(own) else own, cells, stats)
    return _arrays(params), _arrays(filled), size


def given_norm(
    caller: str, spec: Normalizer, params: PyTree, stats: PyTree, num_features: int | tuple[int, ...] | None
) -> tuple[PyTree, PyTree, tuple[int, ...]]:
    """Checks the weights and statistics of a normalizer; returns both, and the shape of the features."""
    if num_features is None:
        shape = feature_shape(spec, params, stats)
        if not shape:
            raise ValueError(f"{caller}: params do not tell the number of features. Pass num_features.")
    else:
        shape = (num_features,) if isinstance(num_features, int) else tuple(num_features)
    initial = jax.eval_shape(lambda: spec.initial_stats(shape))
    for name, got, expected in (("params", params, norm_template(spec, shape)), ("stats", stats, initial)):
        if name == "stats" and _is_nothing(got):
            continue
        if type(got) is not type(expected):
            raise TypeError(
                f"{caller}: {name} must be {type(expected).__name__} for {type(spec).__name__}, got "
                f"{objects.describe(got)}."
            )
        same_shapes(caller, name, got, expected, optional=None, leading=0)
    return _arrays(params), spec.initial_stats(shape) if _is_nothing(stats) else _arrays(stats), shape


def feature_shape(spec: Normalizer, params: PyTree, stats: PyTree) -> tuple[int, ...]:
    """Finds the shape of a normalizer's features: the end of a shape for which it makes such weights and statistics.

    If there is none, it returns the largest shape of a weight; ``()`` without any shape.
    """
    weights, running = ([jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (params, stats))
    ends = {shape[k:] for shape in (*weights, *running) for k in range(len(shape))}
    for end in sorted(ends, key=len, reverse=True):
        if _makes(spec, end, params, stats):
            return end
    return max(weights, key=math.prod, default=())


def _makes(spec: Normalizer, shape: tuple[int, ...], params: PyTree, stats: PyTree) -> bool:
    """Whether weights, and statistics if there are any, have the names and shapes that the spec makes."""
    try:
        template, initial = norm_template(spec, shape), jax.eval_shape(lambda: spec.initial_stats(shape))
    except (TypeError, ValueError):  # for features that it refuses
        return False
    made = [template, initial if jax.tree.leaves(stats) else ()]
    got = [params, stats if jax.tree.leaves(stats) else ()]
    return _named_shapes(made) == _named_shapes(got)


def _named_shapes(trees: list[PyTree]) -> list[list[tuple[Path, tuple[int, ...]]]]:
    return [sorted((path, jnp.shape(leaf)) for path, leaf in paths(tree)) for tree in trees]


def _entries(caller: str, name: str, cells: Cells, tree: PyTree) -> Iterator[tuple[str, Cell, PyTree]]:
    """Yields each cell with its entry in a tree, and a name for messages."""
    if not isinstance(cells, tuple):
        yield name, cells, tree
        return
    for number, (part, entry) in enumerate(zip(cells, one_for_each(caller, name, tree, len(cells)), strict=True)):
        yield from _entries(caller, f"{name}[{number}]", part, entry)


def _is_nothing(stats: PyTree) -> bool:
    return isinstance(stats, tuple) and len(stats) == 0


def _arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)
