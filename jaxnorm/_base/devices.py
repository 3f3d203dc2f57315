"""The devices that a program is traced for, as far as can be known, and what is made for some of them alone."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax import lax
from jax.sharding import AxisType

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, PyTree

T = TypeVar("T")


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


def on_single_cpu(alone: Callable[..., T], otherwise: Callable[..., T], *args: Array) -> T:
    """Computes ``alone(*args)`` in programs for a single CPU device, and ``otherwise(*args)`` in all other programs.

    On a CPU it is faster to merge the axes of time and batch. But the compiler cannot shard a merged axis: if the batch
    is sharded over devices, it would gather the batch and give every device all of the work.
    """
    # A nonempty sharding spec means that a mesh with explicit axes shards the argument.
    if count_cpus() != 1 or any(any(jax.typeof(arg).sharding.spec) for arg in args):
        return otherwise(*args)
    result: T = lax.platform_dependent(*args, cpu=alone, default=otherwise)
    return result


def count_cpus() -> int:
    """The number of CPU devices in all processes."""
    try:
        return jax.device_count("cpu")
    except RuntimeError:  # the process is configured without a CPU backend
        return 0
