"""The sites of a cell, the places where it can normalize: their normalizers, weights, statistics and moments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, PRNGKeyArray
from jaxnorm.norms.affine_norm import RowNorm
from jaxnorm.norms.base import Normalizer, Params, ReusesMoments, Stats, check_normalizer, fresh
from jaxnorm.norms.core.moment_trees import is_moments, map_moments
from jaxnorm.norms.identity import Identity


class CellNorms(NamedTuple):
    """One entry for each site of a cell, the places where it can normalize: specs, weights, statistics or moments.

    ``input`` is the projected input, ``recurrent`` the recurrent product, and ``cell`` the argument of the output
    nonlinearity (c of an LSTM, the summed input of an Elman cell). ``summed`` is the sum of both products, and
    ``projection`` the output of a cell that projects it. ``()`` marks a site without a normalizer.
    """

    input: Any = ()
    recurrent: Any = ()
    cell: Any = ()
    summed: Any = ()
    projection: Any = ()


@jax.tree_util.register_static
class _Keep:
    """Asks a site for moments to keep."""


KEEP = _Keep()


class SiteInput(NamedTuple):
    """What a normalizer gets at one site besides its weights and the data."""

    stats: Stats | None = None
    """Running statistics; None measures the batch."""
    where: Bool[Array, "..."] | None = None
    """True on real examples."""
    measured: Stats | None = None
    """The moments that the forward pass kept; only in the backward pass. In the forward pass KEEP asks for them."""


def normalize(
    norm: Normalizer, params: Params, x: Float[Array, "*B F"], site: SiteInput
) -> tuple[Float[Array, "*B F"], Stats]:
    """Applies a normalizer to the features of a step; also returns the moments."""
    if norm == Identity():
        return x, ()
    where = site.where
    if isinstance(norm, RowNorm) and norm.axis_name is None:
        where = None  # no row looks at another, and the loop drops what becomes of masked ones
    if where is not None:
        where = jnp.expand_dims(where, tuple(range(where.ndim, x.ndim)))
    if site.measured is not None and isinstance(norm, ReusesMoments):
        if site.measured is KEEP:
            return norm.normalize_and_keep(params, x, where)
        return norm.normalize_again(params, x, site.measured, where)
    return norm(params, x, over_positions(site.stats, x.ndim), where)


def over_positions(stats: Stats | None, axes: int) -> Stats | None:
    """Gives statistics of each example one value for all positions between its batch axes and its features."""

    def spread(leaf: Array) -> Array:
        return jnp.expand_dims(leaf, tuple(range(leaf.ndim - 1, axes - 1)))

    def over(part: Any) -> Any:
        return part._replace(mean=spread(part.mean), var=spread(part.var)) if is_moments(part) else part

    return None if stats is None else map_moments(over, stats)


def normalize_steps(
    function: Callable[[Array, SiteInput], tuple[Array, Stats]], xs: Float[Array, "T *B F"], site: SiteInput
) -> tuple[Float[Array, "T *B F"], Stats]:
    """Applies the normalization of one step to each of many steps: batch statistics never mix steps."""
    normalized: tuple[Array, Stats] = jax.vmap(function)(xs, site)
    return normalized


def resolve_sites(
    caller: str,
    norm: Normalizer | CellNorms,
    default: tuple[str, ...],
    optional: tuple[str, ...] = (),
    *,
    check: Callable[[str, Normalizer], None],
) -> CellNorms:
    """Returns a spec for each site: a single normalizer goes to every site in ``default``, the others get Identity.

    ``check(caller, spec)`` raises unless a normalizer fits a site.
    """
    for label, names in (("default_sites", default), ("optional_sites", optional)):
        if unknown := [name for name in names if name not in CellNorms._fields]:
            known = ", ".join(map(repr, CellNorms._fields))
            raise ValueError(f"{caller}: {label} must name places of CellNorms, {known}, got {unknown[0]!r}.")
    if not isinstance(norm, CellNorms):
        check_normalizer(caller, "norm", norm)
        if norm != Identity() and not default:
            named = ", ".join(f"CellNorms({name}=...)" for name in optional)
            must = f"must name its site: {named}" if named else "must be left out: this cell has no site for a norm"
            raise ValueError(f"{caller}: norm {must}; got {norm!r}. The class names its sites in default_sites.")
        norm = CellNorms(**dict.fromkeys(default, norm))
    filled = CellNorms(*(Identity() if spec == () else spec for spec in norm))
    for name, spec in zip(CellNorms._fields, filled, strict=True):
        check_normalizer(caller, f"norm.{name}", spec)
        if name not in default + optional and spec != Identity():
            known = ", ".join(map(repr, default + optional)) or "none"
            raise ValueError(f"{caller}: there is no site {name!r}, only {known}. Leave it out.")
        check(f"{caller}: norm.{name}", spec)
    return filled


def init_sites(norm: CellNorms, shapes: CellNorms, dtype: DTypeLike, key: PRNGKeyArray) -> CellNorms:
    """Makes fresh weights for all sites, each from a key of its own."""
    keys = jax.random.split(key, len(norm))
    return CellNorms(*(fresh(spec, shape, dtype, key=k) for spec, shape, k in zip(norm, shapes, keys, strict=True)))


def site_stats(norm: CellNorms, shapes: CellNorms, rows: int, dtype: DTypeLike) -> CellNorms:
    """Makes running statistics for all sites: each normalizer's initial ones, repeated in ``rows`` rows."""

    def repeat(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (rows, *leaf.shape))

    first = (spec.initial_stats(shape, dtype) for spec, shape in zip(norm, shapes, strict=True))
    return CellNorms(*(jax.tree.map(repeat, stats) for stats in first))


def fold_sites(norm: CellNorms, stats: CellNorms, moments: CellNorms) -> CellNorms:
    """Folds the moments of all sites into their running statistics."""
    for name, value, line in (("stats", stats, "cell.initial_stats()"), ("moments", moments, "unroll(...).moments")):
        if not isinstance(value, CellNorms):
            raise TypeError(
                f"update_running: {name} of a cell must be CellNorms, such as {line}, got {objects.describe(value)}. "
                f"{objects.restore(value, name, 'CellNorms', line)}"
            )
    return CellNorms(*(spec.update_running(s, m) for spec, s, m in zip(norm, stats, moments, strict=True)))


def combine_sites(a: CellNorms, b: CellNorms) -> CellNorms:
    """Merges two records: at each site it takes the entry that is not ``()``."""
    return CellNorms(*(y if isinstance(x, tuple) and x == () else x for x, y in zip(a, b, strict=True)))
