"""Gives everything that a loop carries one sharding: ``lax.scan`` needs the same types before and after a step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array, DType


def vary_alike(inputs: Any, where: Array | None) -> Any:
    """Inside ``shard_map``: marks everything as varying over the same mesh axes."""
    axes = frozenset().union(*(_varying(leaf) for leaf in jax.tree.leaves((inputs, where))))
    return jax.tree.map(lambda leaf: _vary(leaf, axes), inputs)


def batch_sharding(xs: Array, time_axis: int, feature_axes: int) -> tuple[Any, ...]:
    """On a mesh with explicit axes: the mesh axis of each batch axis of the inputs, without time and features."""
    layout = _layout_sharding(xs, feature_axes)
    return (*layout[:time_axis], *layout[time_axis + 1 :])


def shard_alike(xs: Array, batch: tuple[Any, ...], tree: Any, lead: int = 0) -> Any:
    """Shards arrays as the examples of the inputs are sharded.

    Args:
      xs: the inputs.
      batch: the mesh axis of each batch axis, from :func:`batch_sharding`.
      tree: arrays with the axes of the batch.
      lead: number of axes before the batch axes.
    """
    return jax.tree.map(lambda leaf: _shard(leaf, xs, (*(None,) * lead, *batch)), tree)


def shard_layout(xs: Array, feature_axes: int, tree: Any) -> Any:
    """Shards arrays that are laid out like the inputs as these are sharded."""
    return jax.tree.map(lambda leaf: _shard(leaf, xs, _layout_sharding(xs, feature_axes)), tree)


def zeros_beside(xs: Array, feature_axes: int, features: tuple[int, ...], dtype: DType) -> Array:
    """Makes zeros with other features for each example of the inputs, sharded like the inputs."""
    zeros = jnp.zeros((*xs.shape[: xs.ndim - feature_axes], *features), dtype)
    return _vary(_shard(zeros, xs, _layout_sharding(xs, feature_axes)), _varying(xs))


def _layout_sharding(xs: Array, feature_axes: int) -> tuple[Any, ...]:
    spec: tuple[Any, ...] = tuple(jax.typeof(xs).sharding.spec)
    return spec[: xs.ndim - feature_axes]


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
