"""The devices that a program is traced for, as far as the types of its arguments tell."""

import math
from typing import Any

import jax
from jax.sharding import AxisType

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, PyTree


class Target(NamedTuple):
    """The devices of a program."""

    platform: str
    """``"cpu"``, ``"tpu"``, ``"gpu"`` or the name of a kind of GPUs."""
    parts: int
    """Into how many parts the devices cut a batch that is sharded over all of them; 1 inside ``shard_map``."""


def is_gpu(platform: str) -> bool:
    """Whether it is a platform of GPUs."""
    return platform in ("gpu", "cuda", "rocm")


def find_target(xs: Array, *trees: PyTree) -> Target:
    """Finds the devices: those of the mesh on which the arrays lie, or else the default backend.

    A mesh also tells about devices that this process does not have, as when a program is compiled ahead of time. We do
    not know how an automatic axis will shard the inputs, so we count it as one that shards the batch.
    """
    meshes = (jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves((xs, trees)))
    mesh = next((mesh for mesh in meshes if not mesh.empty), None)
    if mesh is None:
        return Target(jax.default_backend(), 1)
    named = _names(jax.typeof(xs).sharding.spec)
    axes = zip(mesh.axis_names, mesh.axis_types, strict=True)
    counted = (name for name, kind in axes if kind == AxisType.Auto or (kind == AxisType.Explicit and name in named))
    parts = math.prod(mesh.shape[name] for name in counted)
    device = mesh.abstract_device
    return Target(jax.default_backend() if device is None else device.platform, parts)


def _names(spec: Any) -> set[Any]:
    """The mesh axes in a sharding spec; an entry holds one, several, or None."""
    return {name for entry in spec if entry is not None for name in (entry if isinstance(entry, tuple) else (entry,))}
