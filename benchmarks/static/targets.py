"""The accelerators that programs are compiled for; none of them has to be there."""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.static.cards import H200, Card, describe


class Target(NamedTuple):
    """One kind of accelerator."""

    platform: str
    topology: str
    """The least slice with such devices."""
    spread_topology: str
    """Eight devices."""
    multiplications: int | None = None
    """What the matrix units of a core do a bundle; None where no schedule can be read."""
    card: Card | None = None


TARGETS = {
    "v5e": Target("tpu", "v5e:2x2", "v5e:2x4", 4 * 128**2),
    "v6e": Target("tpu", "v6e:2x2", "v6e:2x4", 4 * 256**2),
    "v5p": Target("tpu", "v5p:2x2x1", "v5p:2x2x2", 8 * 128**2),
    "h200": Target("cuda", "1x1x1", "1x8x1", card=H200),
}
_PLUGINS = {"tpu": ("libtpu",), "cuda": ("jax_cuda12_plugin", "jax_cuda13_plugin")}
_NEEDS = {"tpu": "libtpu", "cuda": "JAX's plugin for CUDA"}


def why_missing(platform: str) -> str | None:
    """Why programs cannot be compiled for a platform here; None if they can."""
    if any(importlib.util.find_spec(name) for name in _PLUGINS[platform]):
        return None
    names = ", ".join(name for name, target in TARGETS.items() if target.platform == platform)
    return (
        f"compiling for {names} needs {_NEEDS[platform]}, which is not installed. Run 'make bench-{platform} "
        f"VENV=.venv-{platform}', or install 'jaxnorm[bench-{platform}]' into an environment of its own."
    )


def set_environment(platform: str, schedules: Path | None = None) -> None:
    """What has to be set before jax is imported: the host computes, and the compiler asks no machine who it is.

    Args:
      platform: "tpu" or "cuda".
      schedules: a folder into which libtpu writes its schedules.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    if platform == "tpu":
        os.environ.update(TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_MIN_LOG_LEVEL="3")
        os.environ.setdefault("TPU_LOG_DIR", tempfile.gettempdir())
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
        if schedules:
            dump = f"--xla_jf_dump_to={schedules} --xla_jf_dump_llo_text=true"
            os.environ["LIBTPU_INIT_ARGS"] = f"{os.environ.get('LIBTPU_INIT_ARGS', '')} {dump}".strip()


def devices(name: str, spread: bool) -> list[Any]:
    """The devices of a target: those of a slice, or of a node."""
    from jax.experimental import topologies

    target = TARGETS[name]
    topology = target.spread_topology if spread else target.topology
    if target.card is None:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    else:
        described = topologies.get_topology_desc(
            platform="cuda", topology_name=name, target_config=describe(target.card), topology=topology
        )
    found: list[Any] = list(described.devices)
    return found
