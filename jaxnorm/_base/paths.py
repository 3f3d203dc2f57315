"""Paths of weights as tuples of names, and options that users give by name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import jax

from jaxnorm._base.typing import PyTree

Option = TypeVar("Option")
Path: TypeAlias = tuple[str, ...]


def paths(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[tuple[Path, Any]]:
    """Returns each leaf with its path."""
    return [(names(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)]


def names(path: Any) -> Path:
    """Converts a JAX key path to a tuple of names."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def variable_names(path: Any) -> Path:
    """Like :func:`names`, but without the ``value`` of a box around a variable (``nnx.Param``, ``nn.Partitioned``)."""
    boxed = len(path) > 1 and path[-1] == jax.tree_util.GetAttrKey("value")
    return names(path[:-1] if boxed else path)


def map_variables(function: Callable[[Path], Any], tree: PyTree) -> PyTree:
    """Replaces each variable, or the box around it, by a function of its path.

    The result is a prefix of the tree with boxes and of the tree without boxes. NNX passes optimizers first the one and
    later the other.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: function(variable_names(path)), tree, is_leaf=_is_box)


def _is_box(node: Any) -> bool:
    inside = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda other: other is not node)
    return [path for path, _ in inside] == [(jax.tree_util.GetAttrKey("value"),)]


def option_finder(
    caller: str, options: Mapping[str, Option], leaves: Iterable[Path]
) -> Callable[[Path], Option | None]:
    """Returns a function that finds the option of a leaf.

    The name of an option is the path of a leaf joined by underscores (``norm_cell_scale``), or the end of such a path.
    An end matches every leaf with this end (``cell_scale``, ``scale``), unless it is the whole name of a leaf. The
    longest name wins.

    Raises:
      TypeError: an option matches no leaf.
    """
    find = name_finder(caller, options, leaves)

    def option(leaf: Path) -> Option | None:
        name = find(leaf)
        return None if name is None else options[name]

    return option


def name_finder(caller: str, given: Iterable[str], leaves: Iterable[Path]) -> Callable[[Path], str | None]:
    """Returns a function that finds the matching name of a leaf; see :func:`option_finder`."""
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
