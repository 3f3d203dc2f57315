"""Weights and statistics by name: NamedTuples as nested dicts and back, for whatever stores variables under names.

``LSTMParams(kernel, ..., norm=Sites(input=Affine(scale, bias), ...))`` becomes
``{"kernel": ..., "norm": {"input": {"scale": ..., "bias": ...}}}``. Empty branches and None are left out.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import jax

from jaxnorm._typing import DTypeLike, PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.norms.base import Normalizer
from jaxnorm.weights.base import KernelParams, State, WeightNormalizer

F = TypeVar("F", bound=Callable[..., Any])
Option = TypeVar("Option")
Path = tuple[str, ...]


def to_names(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree of NamedTuples or dicts as nested dicts."""
    return nest(paths(tree))


def nest(leaves: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Leaves with the names that lead to them as nested dicts."""
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        *branches, last = path
        place = functools.reduce(lambda place, name: place.setdefault(name, {}), branches, named)
        place[last] = leaf
    return named


def from_names(template: PyTree, named: Mapping[str, Any]) -> PyTree:
    """The nested dicts in the structure of ``template``, which has other leaves at the same places."""
    return fill(template, lambda path: at(named, path))


def at(named: Mapping[str, Any], path: Path) -> Any:
    """What lies at the end of a path through nested dicts."""
    return functools.reduce(lambda place, name: place[name], path, named)


def fill(template: PyTree, value_at: Callable[[Path], Any]) -> PyTree:
    """The structure of ``template`` with the value for each path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: value_at(_names(path)), template)


def paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[Path, Any]]:
    """Each leaf with the names that lead to it."""
    return [(_names(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)]


def _names(path: Any) -> Path:
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def cached(function: F) -> F:
    """Remembers results, as ``functools.cache`` does, and keeps the signature."""
    return cast(F, functools.cache(function))


@cached
def cell_template(cell: Cell, in_features: int) -> PyTree:
    """Shapes and dtypes of the weights of a cell, in their structure."""
    return jax.eval_shape(lambda key: cell.init(key, in_features), jax.eval_shape(jax.random.key, 0))


@cached
def norm_template(spec: Normalizer, shape: tuple[int, ...]) -> PyTree:
    """Shapes of the weights of a normalizer, in their structure."""
    return jax.eval_shape(lambda: spec.init(shape))


@cached
def kernel_template(spec: WeightNormalizer, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[KernelParams, State]:
    """Shapes and dtypes of the weights and of the state of a weight normalizer, in their structure."""
    kernel = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    key = jax.eval_shape(jax.random.key, 0)
    made: tuple[KernelParams, State] = jax.eval_shape(lambda kernel, key: spec.init(kernel, key), kernel, key)
    return made


def choose_kernels(
    where: str, kernels: WeightNormalizer | Mapping[str, WeightNormalizer], leaves: Iterable[Path]
) -> dict[Path, WeightNormalizer]:
    """The weight normalizer of each leaf that has one: one spec serves all named ``kernel`` or ``recurrent``.

    Raises:
      TypeError: a name belongs to no leaf, or there is no leaf of these names.
    """
    leaves = list(leaves)
    if isinstance(kernels, Mapping):
        find = option_finder(where, kernels, leaves)
        found = {leaf: find(leaf) for leaf in leaves}
    else:
        found = {leaf: kernels if leaf[-1] in ("kernel", "recurrent") else None for leaf in leaves}
    chosen = {leaf: spec for leaf, spec in found.items() if spec is not None}
    if not chosen:
        raise TypeError(
            f"{where}: no variable is named 'kernel' or 'recurrent'; there are "
            f"{', '.join(sorted('_'.join(leaf) for leaf in leaves)) or 'none at all'}. Name some: {{'weight': spec}}."
        )
    return chosen


def option_finder(where: str, options: Mapping[str, Option], leaves: Iterable[Path]) -> Callable[[Path], Option | None]:
    """Says which of several named options belongs to a leaf.

    An option is named by the path of a leaf joined by underscores (``norm_cell_scale``), or by the end of it: then it
    belongs to every leaf that ends so (``cell_scale``, ``scale``), unless a leaf has that very name. The longest name
    wins.

    Raises:
      TypeError: an option belongs to no leaf.
    """
    whole = {"_".join(leaf) for leaf in leaves}
    ends = {leaf: ["_".join(leaf[k:]) for k in range(len(leaf))] for leaf in leaves}
    fitting = {leaf: [end for k, end in enumerate(found) if k == 0 or end not in whole] for leaf, found in ends.items()}
    known = {end for found in fitting.values() for end in found}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"{where}: there is no variable {unknown[0]!r} here, only {', '.join(sorted(whole)) or 'none at all'}."
        )
    return lambda leaf: next((options[end] for end in fitting[leaf] if end in options), None)
