"""Devices by name, and which part of an array each of them holds."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from char_lm_support.errors import BadInput
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("data", "model")
"""Examples are spread over ``data``, the hidden features of kernels over ``model``."""


def read_axes(words: str) -> dict[str, int]:
    """``data=4,model=2`` as sizes by name; an axis that is not named has size one."""
    sizes: dict[str, int] = {}
    for word in words.split(","):
        name, _, size = word.partition("=")
        if name not in AXES or not size.isdecimal() or int(size) < 1:
            raise BadInput(f"--mesh {words}: {word!r} is no axis with a size. Give some of data=N,model=N.")
        if name in sizes:
            raise BadInput(f"--mesh {words}: {name} is given twice. Give one size for each axis.")
        sizes[name] = int(size)
    return {**dict.fromkeys(AXES, 1), **sizes}


def choose_axes(typed: str | None, before: dict[str, int] | None, devices: int) -> dict[str, int]:
    """What was typed; else the mesh of the run before, whose axis ``model`` stays if it divides the devices."""
    if typed is not None:
        sizes = read_axes(typed)
        if math.prod(sizes.values()) != devices:
            raise BadInput(f"--mesh {typed}: takes {math.prod(sizes.values())} devices, there are {devices}. "
                           "Give sizes whose product is that.")  # fmt: skip
        return sizes
    model = before["model"] if before else 1
    model = model if devices % model == 0 else 1
    return {"data": devices // model, "model": model}


def make_mesh(sizes: dict[str, int], devices: Sequence[Any]) -> Mesh:
    """Devices laid out so that neighbors of an axis lie near each other, also where it takes a part of a torus."""
    shape = tuple(sizes[name] for name in AXES)
    return Mesh(mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), AXES)


def describe(mesh: Mesh) -> str:
    return ",".join(f"{name}={size}" for name, size in mesh.shape.items())


def spread_batch(mesh: Mesh) -> NamedSharding:
    """Rows over ``data``, all else whole."""
    return NamedSharding(mesh, P("data"))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The whole array on each device."""
    return NamedSharding(mesh, P())


def spread_kernels(tree: Any, mesh: Mesh) -> Any:
    """Kernels over ``model`` along their last axis, the hidden features, where that divides it; vectors stay whole."""

    def spread(leaf: Any) -> NamedSharding:
        if leaf.ndim > 1 and leaf.shape[-1] % mesh.shape["model"] == 0:
            return NamedSharding(mesh, P(*(None,) * (leaf.ndim - 1), "model"))
        return everywhere(mesh)

    return jax.tree.map(spread, tree)
