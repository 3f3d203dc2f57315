"""What a record says of its making: versions, processor, revision."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = ("jaxnorm", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")


def describe() -> dict[str, Any]:
    """Versions, processor and revision, the same in each record of a process."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "processor": _processor(),
        "revision": _revision(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _revision() -> str | None:
    """The commit of the checkout, with a plus if files have changed since; None outside of one."""

    def git(*words: str) -> str:
        root = Path(__file__).parents[2]
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
