"""Weights by the names that lead to them, and options for some of them by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import jax

from jaxnorm._typing import PyTree

Option = TypeVar("Option")
Path: TypeAlias = tuple[str, ...]


def paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[Path, Any]]:
    """Each leaf with the names that lead to it."""
    return [(names(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)]


def names(path: Any) -> Path:
    """The names on the way to a leaf."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def variable_names(path: Any) -> Path:
    """The names on the way to a variable: the box around its value (``nnx.Param``, ``nn.Partitioned``) has none."""
    boxed = len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value")
    return names(path[:-1] if boxed else path)


def map_variables(function: Callable[[Path], Any], tree: PyTree) -> PyTree:
    """What a function says of the names of each variable, in the place of the variable or of the box around it.

    So it is a prefix of the tree with its boxes and without: NNX hands optimizers the one at first, then the other.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: function(variable_names(path)), tree, is_leaf=_is_box)


def _is_box(node: Any) -> bool:
    inside = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda other: other is not node)
    return [path for path, _ in inside] == [(jax.tree_util.GetAttrKey("value"),)]


def option_finder(
    caller: str, options: Mapping[str, Option], leaves: Iterable[Path]
) -> Callable[[Path], Option | None]:
    """Says which of several named options belongs to a leaf.

    An option is named by the path of a leaf joined by underscores (``norm_cell_scale``), or by the end of it: then it
    belongs to every leaf that ends so (``cell_scale``, ``scale``), unless a leaf has that very name. The longest name
    wins.

    Raises:
      TypeError: an option belongs to no leaf.
    """
    find = name_finder(caller, options, leaves)

    def option(leaf: Path) -> Option | None:
        name = find(leaf)
        return None if name is None else options[name]

    return option


def name_finder(caller: str, given: Iterable[str], leaves: Iterable[Path]) -> Callable[[Path], str | None]:
    """Says which of several names belongs to a leaf; see :func:`option_finder`."""
    given, leaves = set(given), list(leaves)
    whole = {"_".join(leaf) for leaf in leaves}
    ends = {leaf: ["_".join(leaf[k:]) for k in range(len(leaf))] for leaf in leaves}
    fitting = {leaf: [end for k, end in enumerate(found) if k == 0 or end not in whole] for leaf, found in ends.items()}
    known = {end for found in fitting.values() for end in found}
    unknown = sorted(given - known)
    if unknown:
        raise TypeError(
            f"{caller}: there is no variable {unknown[0]!r} here, only {', '.join(sorted(whole)) or 'none at all'}."
        )
    return lambda leaf: next((end for end in fitting[leaf] if end in given), None)
