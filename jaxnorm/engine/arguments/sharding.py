"""Gives everything that a loop carries one sharding: ``lax.scan`` needs the same types before and after a step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._typing import Array, DType
from jaxnorm.engine.loops.scan import Given


def vary_alike(given: Given, where: Array | None) -> Given:
    """Inside ``shard_map``: marks everything as varying over the same mesh axes."""
    axes = frozenset().union(*(_varying(leaf) for leaf in jax.tree.leaves((given, where))))
    varied: Given = jax.tree.map(lambda leaf: _vary(leaf, axes), given)
    return varied


def shard_alike(xs: Array, axis: int, tree: Any, lead: int = 0) -> Any:
    """On a mesh with explicit axes: shards arrays as the examples of the inputs are sharded.

    Args:
      xs: the inputs.
      axis: their time axis.
      tree: arrays with the axes of the batch.
      lead: number of axes before the batch axes.
    """
    spec = jax.typeof(xs).sharding.spec
    batch = (*spec[:axis], *spec[axis + 1 : -1])
    return jax.tree.map(lambda leaf: _shard(leaf, xs, (*(None,) * lead, *batch)), tree)


def zeros_beside(xs: Array, features: tuple[int, ...], dtype: DType) -> Array:
    """Makes zeros with other features for each example of the inputs, sharded like the inputs."""
    zeros = jnp.zeros((*xs.shape[:-1], *features), dtype)
    return _vary(_shard(zeros, xs, jax.typeof(xs).sharding.spec[:-1]), _varying(xs))


def _varying(leaf: Array) -> frozenset[Any]:
    axes: frozenset[Any] = jax.typeof(leaf).manual_axis_type.varying
    return axes


def _vary(leaf: Array, axes: frozenset[Any]) -> Array:
    missing = tuple(sorted(axes - _varying(leaf)))
    return lax.pcast(leaf, missing, to="varying") if missing else leaf


def _shard(leaf: Array, like: Array, spec: tuple[Any, ...]) -> Array:
    """Reshards an array by ``spec`` for its first axes, on the mesh of another array."""
    if not any(spec):
        return leaf
    whole = PartitionSpec(*spec, *(None,) * (leaf.ndim - len(spec)))  # type: ignore[no-untyped-call]
    sharding = NamedSharding(jax.typeof(like).sharding.mesh, whole)
    moved: Array = jax.reshard(leaf, sharding)  # type: ignore[no-untyped-call]
    return moved
