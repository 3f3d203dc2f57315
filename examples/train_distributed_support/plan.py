"""Compiles a training step for a TPU slice that need not be there, and reports its memory and traffic."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from char_lm_support.errors import BadInput
from jax.experimental import topologies

from . import mesh, traffic, training
from .folder import Folder
from .model import LanguageModel

GIBIBYTES = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}
"""The memory of a device."""


def show(args: argparse.Namespace) -> None:
    """Prints the memory and the collectives of one training step."""
    devices = _devices(args.compile_for)
    text, model = training.load(args)
    stored = Folder(args.out).stored() if args.resume else None
    sizes = mesh.choose_axes(args.mesh, (stored or {}).get("last_mesh"), len(devices))
    training.check_mesh(args, sizes)
    grid = mesh.make_mesh(sizes, devices)
    print(f"{text.about}\n{args.compile_for}: {len(devices)} devices, {mesh.describe(grid)}; compiles", flush=True)
    compiled = _compile(model, grid)
    memory = compiled.memory_analysis()
    held, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    total = held + temporary + memory.output_size_in_bytes - memory.alias_size_in_bytes
    print(f"memory of a device: {_size(total)} (state and batch {_size(held)}, temporary {_size(temporary)}), of "
          f"{GIBIBYTES.get(args.compile_for.split(':')[0], '?')} GiB")  # fmt: skip
    found = traffic.collectives(compiled.as_text())
    if not found:
        print("no collectives")
    for (kind, place), (times, sent) in sorted(found.items()):
        print(f"{kind}, {place}: {times:,} a training step, {_size(sent)} on each device")


def _compile(model: LanguageModel, grid: jax.sharding.Mesh) -> Any:
    shapes, shardings = jax.eval_shape(model.init, jax.random.key(0)), model.shardings(grid)
    state = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, shardings
    )
    ids = jax.ShapeDtypeStruct((model.batch, model.window + 1), jnp.int32, sharding=mesh.spread_batch(grid))
    step = jax.jit(model.train_step, donate_argnums=0, out_shardings=(shardings, mesh.everywhere(grid)))
    return step.lower(state, ids).compile()


def _devices(name: str) -> list[Any]:
    """The devices of a slice as its compiler knows them."""
    for setting in ("TPU_SKIP_MDS_QUERY", "ALLOW_MULTIPLE_LIBTPU_LOAD"):  # nothing runs on a TPU here
        os.environ.setdefault(setting, "1")
    os.environ.setdefault("TPU_LOG_DIR", "disabled")
    jax.config.update("jax_platforms", "cpu")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise BadInput(f"--compile-for {name}: needs the compiler of TPUs: pip install libtpu.") from None
    try:
        with _silence():
            return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:  # whatever libtpu finds wrong with it
        said = " ".join(str(error).split())[:120]
        raise BadInput(f"--compile-for {name}: libtpu refuses it ({said}). Slices have names such as v5e:2x2, "
                       "v5e:16x16, v6e:4x4 or v5p:4x4x4.") from error  # fmt: skip


@contextmanager
def _silence() -> Iterator[None]:
    """Drops what libtpu prints because this machine is no TPU."""
    errors, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
        os.close(nothing)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"
