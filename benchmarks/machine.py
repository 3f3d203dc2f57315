"""What a reader of the results has to know about the machine."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jaxnorm", "jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
THREAD_SETTINGS = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JAX_PLATFORMS")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def folder_name() -> str:
    """The default name of a results folder: date, device and cores."""
    device = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower()).strip("-")
    return f"{datetime.date.today().isoformat()}-{device}-{cores()}cores"


def describe() -> dict[str, Any]:
    """Processor, memory, device, versions, thread settings, date and commit."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "os": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "device": jax.devices()[0].device_kind,
        "backend": jax.default_backend(),
        "python": platform.python_version(),
        "versions": _versions(PACKAGES),
        "commit": commit(),
        "threads": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
    }


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Python's version, and those of the libraries that are measured and of some more."""
    return {"Python": platform.python_version(), **_versions((*PACKAGES, *packages))}


def _cpu() -> str:
    with_name = Path("/proc/cpuinfo")
    if with_name.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", with_name.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, AttributeError):
        return None


def _versions(packages: Iterable[str]) -> dict[str, str]:
    return {name: version for name in packages if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the source, with a plus if files have changed since; None outside a checkout."""

    def git(*words: str) -> str:
        root = Path(__file__).parents[1]
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
