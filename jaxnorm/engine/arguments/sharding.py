"""Gives everything that a loop carries one sharding: ``lax.scan`` needs the same types before and after a step."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array, DType
from jaxnorm.norms.core.moment_trees import is_moments, map_moments
from jaxnorm.norms.core.moments import Moments


def vary_alike(inputs: Any, where: Array | None) -> Any:
    """Inside ``shard_map``: marks everything as varying over the same mesh axes."""
    axes = frozenset().union(*(_varying(leaf) for leaf in jax.tree.leaves((inputs, where))))
    return jax.tree.map(lambda leaf: _vary(leaf, axes), inputs)


def check_time(caller: str, xs: Array, time_axis: int) -> None:
    """Raises ValueError where the steps of a sequence are spread over a mesh with explicit axes."""
    names = jax.typeof(xs).sharding.spec[time_axis]
    if names is not None:
        batch = tuple(None if axis == time_axis else names for axis in range(2))
        raise ValueError(
            f"{caller}: xs is spread over the mesh axis {names!r} along time, its axis {time_axis}. Steps run one "
            f"after the other: spread the batch, jax.device_put(xs, jax.P{batch}), or pass another time_axis."
        )


def batch_sharding(xs: Array, time_axis: int, feature_axes: int) -> tuple[Any, ...]:
    """On a mesh with explicit axes: the mesh axis of each batch axis of the inputs, without time and features."""
    layout = _layout_sharding(xs, feature_axes)
    return (*layout[:time_axis], *layout[time_axis + 1 :])


def gather(leaf: Array, names: Any) -> Array:
    """Gathers an array along some axes of a mesh with explicit axes."""
    sharding = jax.typeof(leaf).sharding
    spec = [_without(each, frozenset(names)) for each in sharding.spec]
    if spec == list(sharding.spec):
        return leaf
    gathered: Array = jax.reshard(leaf, NamedSharding(sharding.mesh, PartitionSpec(*spec)))  # type: ignore[no-untyped-call]
    return gathered


def gather_beside_batch(tree: Any, batch: tuple[Any, ...]) -> Any:
    """Gathers weights along the mesh axes that spread the batch: each device needs them whole for its own examples.

    The derivative spreads their gradients in turn, as training with fully sharded weights wants.
    """
    names = jax.tree.leaves(batch)
    return jax.tree.map(lambda leaf: gather(leaf, names), tree) if names else tree


def _without(entry: Any, names: frozenset[Any]) -> Any:
    """One entry of a sharding without some mesh axes."""
    kept = tuple(name for name in jax.tree.leaves(entry) if name not in names)
    return entry if len(kept) == len(jax.tree.leaves(entry)) else (kept if len(kept) > 1 else next(iter(kept), None))


def mesh_of(tree: Any) -> Any:
    """The mesh of the arrays of a tree, or the one that is set; empty if there is none."""
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(tree))
    return next((mesh for mesh in meshes if not mesh.empty), jax.sharding.get_abstract_mesh())


def spread_by(mesh: Any, batch: tuple[Any, ...]) -> list[int]:
    """The number of devices that each batch axis can be spread over.

    Args:
      mesh: the mesh, from :func:`mesh_of`.
      batch: its explicit axes that spread each batch axis, from :func:`batch_sharding`. Any of them may be spread over
        the automatic axes, too.
    """
    automatic = math.prod(mesh.shape[name] for name in mesh.auto_axes)

    def explicit(names: Any) -> int:
        each = names if isinstance(names, tuple) else () if names is None else (names,)
        return math.prod(mesh.shape[name] for name in each)

    return [explicit(names) * automatic for names in batch]


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


def feature_sharding(outputs: Any, lead: int) -> tuple[Any, ...]:
    """On a mesh with explicit axes: the mesh axes of the axes of outputs after the first ``lead``."""
    return () if outputs.sharding is None else tuple(outputs.sharding.spec)[lead:]


def flat_moments(moments: Any) -> Any:
    """Makes moments (T, G*H) of those (T, G, H) of cells whose hidden features may be spread, and gathers them."""

    def flat(one: Moments) -> Moments:
        if one.mean.ndim < 3:
            return one
        mean, var = (_whole(leaf).reshape(leaf.shape[0], -1) for leaf in (one.mean, one.var))
        return one._replace(mean=mean, var=var)

    return map_moments(lambda one: flat(one) if is_moments(one) else one, moments)


def _whole(leaf: Array) -> Array:
    return gather(leaf, jax.tree.leaves(tuple(jax.typeof(leaf).sharding.spec)))


def zeros_beside(
    xs: Array, feature_axes: int, features: tuple[int, ...], dtype: DType, places: tuple[Any, ...] = ()
) -> Array:
    """Makes zeros with other features for each example of the inputs, sharded like the inputs.

    ``places`` are the mesh axes of the features.
    """
    lead, layout = xs.shape[: xs.ndim - feature_axes], _layout_sharding(xs, feature_axes)
    zeros = jnp.zeros((*lead, *features), dtype)
    if jax.typeof(xs).sharding.mesh.explicit_axes:  # where parts of a batch are mapped, zeros made of xs are spread so
        whole = gather(xs, jax.tree.leaves(tuple(jax.typeof(xs).sharding.spec)[len(lead) :]))
        some = whole[(..., *(slice(0, 1),) * feature_axes)].reshape(*lead, *(1,) * len(features))
        zeros = jnp.where(False, jnp.broadcast_to(some.astype(dtype), zeros.shape), _shard(zeros, xs, layout))
    return _vary(_shard(zeros, xs, (*layout, *places)), _varying(xs))


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
    mesh = jax.typeof(like).sharding.mesh
    sharding = NamedSharding(jax.sharding.get_abstract_mesh() if mesh.empty else mesh, whole)
    moved: Array = jax.reshard(leaf, sharding)  # type: ignore[no-untyped-call]
    return moved
