"""Converts NamedTuples of weights and statistics to nested dicts and back, for libraries that store them by name.

``LSTMParams(kernel, ..., norm=CellNorms(input=Affine(scale, bias), ...))`` becomes
``{"kernel": ..., "norm": {"input": {"scale": ..., "bias": ...}}}``. Empty branches and None are omitted.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import jax

from jaxnorm._base.paths import Path, names, option_finder, paths
from jaxnorm._base.typing import DTypeLike, PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.norms.base import Normalizer
from jaxnorm.norms.group_norm import GroupNorm
from jaxnorm.norms.rms_norm import RMSNorm
from jaxnorm.weight_norms.base import KernelParams, State, WeightNormalizer, check_weight_normalizer

F = TypeVar("F", bound=Callable[..., Any])


def to_names(tree: PyTree) -> dict[str, Any]:
    """Converts a tree of NamedTuples or dicts to nested dicts."""
    return nest(paths(tree))


def nest(leaves: Iterable[tuple[Path, Any]]) -> dict[str, Any]:
    """Builds nested dicts from leaves and their paths."""
    named: dict[str, Any] = {}
    for path, leaf in leaves:
        if not path:
            raise TypeError(
                "RNN: the weights of a cell in a module of Flax need names, got a single array. Let params_init return "
                "a dict or a NamedTuple."
            )
        *branches, last = path
        place = functools.reduce(lambda place, name: place.setdefault(name, {}), branches, named)
        place[last] = leaf
    return named


def from_names(template: PyTree, named: Mapping[str, Any]) -> PyTree:
    """Converts nested dicts to the structure of ``template``, which has the same paths."""
    return fill(template, lambda path: at(named, path))


def at(named: Mapping[str, Any], path: Path) -> Any:
    """Looks up a path in nested dicts."""
    return functools.reduce(lambda place, name: place[name], path, named)


def fill(template: PyTree, value_at: Callable[[Path], Any]) -> PyTree:
    """Replaces every leaf of ``template`` by the value for its path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: value_at(names(path)), template)


def cached(function: F) -> F:
    """Caches results like ``functools.cache``, but keeps the type signature."""
    return cast(F, functools.cache(function))


@cached
def norm_template(spec: Normalizer, shape: tuple[int, ...]) -> PyTree:
    """The tree of a normalizer's weights, with shapes and dtypes as leaves."""
    return jax.eval_shape(lambda: spec.init(shape))


@cached
def kernel_template(spec: WeightNormalizer, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[KernelParams, State]:
    """The trees of a weight normalizer's weights and state, with shapes and dtypes as leaves."""
    kernel = jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]
    key = jax.eval_shape(jax.random.key, 0)
    made: tuple[KernelParams, State] = jax.eval_shape(lambda kernel, key: spec.init(kernel, key), kernel, key)
    return made


def check_kernels(caller: str, kernels: Any) -> None:
    """Raises TypeError unless ``kernels`` is a weight normalizer or a dict of them by name."""
    named = kernels.items() if isinstance(kernels, Mapping) else [(None, kernels)]
    for name, spec in named:
        check_weight_normalizer(caller, "kernels" if name is None else f"kernels[{name!r}]", spec)


def choose_kernels(
    caller: str, kernels: WeightNormalizer | Mapping[str, WeightNormalizer], leaves: Iterable[Path]
) -> dict[Path, WeightNormalizer]:
    """Finds the weight normalizer of each leaf; a single spec applies to all leaves named ``kernel`` or ``recurrent``.

    Raises:
      TypeError: a name matches no leaf, or no leaf has one of these names.
    """
    check_kernels(caller, kernels)
    leaves = list(leaves)
    if isinstance(kernels, Mapping):
        find = option_finder(caller, kernels, leaves)
        found = {leaf: find(leaf) for leaf in leaves}
    else:
        found = {leaf: kernels if leaf[-1] in ("kernel", "recurrent") else None for leaf in leaves}
    chosen = {leaf: spec for leaf, spec in found.items() if spec is not None}
    if not chosen:
        raise TypeError(
            f"{caller}: no variable is named 'kernel' or 'recurrent'; there are "
            f"{', '.join(sorted('_'.join(leaf) for leaf in leaves)) or 'none at all'}. Name some: {{'weight': spec}}."
        )
    return chosen


def check_mesh_axes(caller: str, argument: str, cell: Cell, path: Path, shape: tuple[int, ...], axes: Any) -> None:
    """Raises ValueError if the names of mesh axes would cut a weight of a cell where it must stay whole.

    Args:
      caller: the name of the module, for messages.
      argument: the argument that holds the names, for messages.
      cell: the cell.
      path: the path of the weight.
      shape: its shape.
      axes: a name or None for each axis, or None for all of them.
    """
    given = tuple(axes or ())
    if all(axis is None for axis in given):
        return
    told = f"{caller}: {argument} spreads {'_'.join(path)}, of shape {shape}, over mesh axes {given}"
    if len(shape) < 2:
        raise ValueError(
            f"{told}. A vector of a cell holds gate after gate, so a part of it belongs to no part of the features. "
            "Name mesh axes for kernels only; vectors stay whole on every device."
        )
    if len(given) < len(shape) or given[-1] is None:
        return
    for site, norm in zip(cell.sites._fields, cell.sites, strict=True):
        if isinstance(norm, GroupNorm) or (isinstance(norm, RMSNorm) and norm.fraction < 1.0):
            raise ValueError(
                f"{told}, but {norm!r} at the site {site!r} takes only some of the hidden features together. "
                "Keep the last axis of kernels whole, or pass a normalizer of all features."
            )
