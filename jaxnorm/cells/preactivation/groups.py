"""Normalizes flat gates group by group: the gates of a group share their statistics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.preactivation.layout import by_gate, group_slices
from jaxnorm.cells.sites import SiteInput, normalize
from jaxnorm.norms.base import Normalizer, Params, Stats
from jaxnorm.norms.core.moment_trees import map_features
from jaxnorm.norms.identity import Identity


def normalize_groups(
    norm: Normalizer, groups: tuple[int, ...], params: Params, x: Float[Array, "*B GH"], site: SiteInput
) -> tuple[Float[Array, "*B GH"], Stats]:
    """Applies a normalizer to the features of each group of gates; also returns the moments of all."""
    if norm == Identity():
        return x, ()
    if len(groups) == 1:
        return normalize(norm, params, x, site)
    outputs, moments = [], []
    for part in group_slices(groups, x.shape[-1] // sum(groups)):

        def pick(leaf: Array, part: slice = part) -> Array:
            return leaf[..., part]

        y, m = normalize(norm, jax.tree.map(pick, params), pick(x), map_site(pick, site))
        outputs.append(y)
        moments.append(m)
    return jnp.concatenate(outputs, axis=-1), join_moments(*moments, axis=-1)


def normalize_by_gate(
    norm: Normalizer, groups: tuple[int, ...], params: Params, x: Float[Array, "*B G H"], site: SiteInput
) -> tuple[Float[Array, "*B G H"], Stats]:
    """The same for gates on an axis of their own, in data, weights and moments; given statistics are flat."""
    if norm == Identity():
        return x, ()
    spec: Any = norm
    stats = None if site.stats is None else map_features(lambda leaf: by_gate(leaf, sum(groups)), site.stats)
    site = site._replace(stats=stats)
    outputs, moments = [], []
    for part in group_slices(groups, 1):

        def pick(leaf: Array, part: slice = part) -> Array:
            return leaf[..., part, :]

        y, m = normalize(spec.over_gates(), jax.tree.map(pick, params), pick(x), map_site(pick, site))
        outputs.append(y)
        moments.append(m)
    if len(groups) == 1:
        return outputs[0], moments[0]
    return jnp.concatenate(outputs, axis=-2), join_moments(*moments, axis=-2)


def cut(tree: Any, part: slice) -> Any:
    """Picks features from every array of a tree."""
    return jax.tree.map(lambda leaf: leaf[..., part], tree)


def cut_moments(stats: Stats | None, part: slice) -> Stats | None:
    """Picks features from all Moments; counts stay, since all groups count the same batch."""
    return map_features(lambda leaf: leaf[..., part], stats)


def map_site(function: Callable[[Array], Array], site: SiteInput) -> SiteInput:
    """Applies a function to all statistics of a site that vary over the features."""
    return site._replace(stats=map_features(function, site.stats), measured=map_features(function, site.measured))


def join_moments(*parts: Stats, axis: int = -1) -> Stats:
    """Concatenates the features of the moments of several groups."""
    return map_features(lambda *leaves: jnp.concatenate(leaves, axis=axis), *parts)
