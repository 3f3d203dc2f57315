"""Normalizes flat gates group by group: the gates of a group share their statistics."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.preactivation.layout import by_gate, group_slices
from jaxnorm.cells.sites import SiteInput, normalize
from jaxnorm.norms.base import Normalizer, Params, Stats
from jaxnorm.norms.core.moments import Moments, map_moments
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
        y, m = normalize(norm, cut(params, part), x[..., part], cut_site(site, part))
        outputs.append(y)
        moments.append(m)
    return jnp.concatenate(outputs, axis=-1), join_moments(*moments)


def normalize_by_gate(
    norm: Normalizer, groups: tuple[int, ...], params: Params, x: Float[Array, "*B G H"], site: SiteInput
) -> tuple[Float[Array, "*B G H"], Stats]:
    """The same for gates on an axis of their own, in data, weights and moments; given statistics are flat."""
    if norm == Identity():
        return x, ()
    spec: Any = norm
    where = None if site.where is None else jnp.expand_dims(site.where, tuple(range(site.where.ndim, x.ndim)))
    stats = None if site.stats is None else map_features(lambda leaf: by_gate(leaf, sum(groups)), site.stats)
    outputs, moments = [], []
    for part in group_slices(groups, 1):

        def pick(leaf: Array, part: slice = part) -> Array:
            return leaf[..., part, :]

        own = None if stats is None else map_features(pick, stats)
        y, m = spec.over_gates()(jax.tree.map(pick, params), pick(x), own, where)
        outputs.append(y)
        moments.append(m)
    if len(groups) == 1:
        return outputs[0], moments[0]
    return jnp.concatenate(outputs, axis=-2), join_moments(*moments, axis=-2)


def cut(tree: Any, part: slice) -> Any:
    """Picks features from every array of a tree."""
    return jax.tree.map(lambda leaf: leaf[..., part], tree)


def cut_site(site: SiteInput, part: slice) -> SiteInput:
    """Picks the statistics of some features."""
    return site._replace(stats=cut_moments(site.stats, part), measured=cut_moments(site.measured, part))


def cut_moments(stats: Stats | None, part: slice) -> Stats | None:
    """Picks features from mean and variance of all Moments; counts stay, since all groups count the same batch."""
    return None if stats is None else map_features(lambda leaf: leaf[..., part], stats)


def join_moments(*parts: Stats, axis: int = -1) -> Stats:
    """Concatenates the features of the moments of several groups."""

    def join(first: Moments, *rest: Moments) -> Moments:
        every = (first, *rest)
        mean, var = (jnp.concatenate([getattr(m, name) for m in every], axis=axis) for name in ("mean", "var"))
        return first._replace(mean=mean, var=var)

    return map_moments(join, *parts)


def map_features(function: Callable[[Array], Array], stats: Stats) -> Stats:
    """Applies a function to mean and variance of all Moments and keeps the counts."""
    return map_moments(lambda m: m._replace(mean=function(m.mean), var=function(m.var)), stats)
