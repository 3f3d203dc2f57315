"""Moments in trees: which nodes they are, and maps over them."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, PyTree
from jaxnorm.norms.core.moments import Moments


class KeptMoments(NamedTuple):
    """Moments with what else it takes to normalize with them to the last digit, in the backward pass of a cell."""

    mean: Float[Array, "..."]
    var: Float[Array, "..."]
    count: Float[Array, "..."]  # type: ignore[assignment]  # as in Moments
    rounded: Float[Array, "..."]
    """The mean that was subtracted first. Where data lie far from zero, it misses digits that their deviation has."""
    rest: Float[Array, "..."]
    """What was subtracted afterwards."""
    factor: Float[Array, "..."]
    """The inverse deviation."""

    @property
    def moments(self) -> Moments:
        """The moments alone."""
        return Moments(self.mean, self.var, self.count)


def is_moments(node: Any) -> bool:
    """Whether a node of a tree is a Moments, kept or not."""
    return isinstance(node, Moments | KeptMoments)


def map_features(function: Callable[..., Array], tree: PyTree, *rest: PyTree) -> PyTree:
    """Maps a function over all that varies over the features, in every Moments of a tree; keeps the counts."""

    def each(first: Any, *others: Any) -> Any:
        return type(first)(*(
            leaf if name == "count" else function(leaf, *(getattr(other, name) for other in others))
            for name, leaf in zip(first._fields, first, strict=True)
        ))  # fmt: skip

    return map_moments(each, tree, *rest)


def map_moments(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Maps a function over every Moments in a tree, like ``jax.tree.map``; further trees have the same structure."""
    return jax.tree.map(function, tree, *rest, is_leaf=is_moments)
