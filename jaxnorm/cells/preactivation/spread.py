"""Hidden features that are spread over devices: what a step needs whole, and where vectors go.

A kernel (I, G, H) whose H is spread over a mesh cannot be viewed as a matrix (I, G*H): the view would mix the parts of
all gates. So on a mesh of several devices gates stay an axis of their own, and each device has its features of all of
them. The state is gathered once a step for the recurrent product; norms add their sums over the devices.
"""

from typing import Any

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array


def spread_axis(*arrays: Array | None) -> Any:
    """The explicit mesh axes over which the last axis of one of the arrays is spread; None if none is."""
    specs = (jax.typeof(array).sharding.spec for array in arrays if array is not None)
    return next((spec[-1] for spec in specs if len(spec) and spec[-1] is not None), None)


def may_be_spread(*arrays: Array | None) -> bool:
    """Whether the compiler may spread the arrays: there is a mesh of several devices with automatic axes."""
    meshes = [jax.sharding.get_abstract_mesh()]
    meshes += [jax.typeof(array).sharding.mesh for array in arrays if array is not None]
    return any(mesh.shape[name] > 1 for mesh in meshes for name in mesh.auto_axes)


def gather_features(x: Array, kernel: Any) -> Array:
    """Brings all features of ``x`` to each device, for a product with a kernel whose outputs are spread."""
    mesh = jax.typeof(x).sharding.mesh
    if spread_axis(x) is not None:
        spec = tuple(jax.typeof(x).sharding.spec)
        whole: Array = jax.reshard(x, NamedSharding(mesh, PartitionSpec(*spec[:-1], None)))  # type: ignore[no-untyped-call]
        return whole
    if kernel.ndim < 3 or spread_axis(kernel) is not None or not may_be_spread(x, kernel):
        return x
    mesh = mesh if not mesh.empty else jax.typeof(kernel).sharding.mesh
    mesh = mesh if not mesh.empty else jax.sharding.get_abstract_mesh()
    free = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
    gathered: Array = lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*free, None)))  # type: ignore[no-untyped-call]
    return gathered


def spread_vectors(tree: Any, like: Any) -> Any:
    """Gives each device its features of vectors, where those of an explicitly sharded kernel are spread."""
    axis = spread_axis(like)
    if axis is None:
        return tree
    mesh = jax.typeof(like).sharding.mesh

    def spread(leaf: Array) -> Array:
        spec = PartitionSpec(*(None,) * (leaf.ndim - 1), axis)  # type: ignore[no-untyped-call]
        moved: Array = jax.reshard(leaf, NamedSharding(mesh, spec))  # type: ignore[no-untyped-call]
        return moved

    return jax.tree.map(spread, tree)
