"""The command line: ``python -m jaxnorm info`` says what is installed, what it runs on, and where to read."""

import argparse
import importlib.metadata
import inspect
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

import jaxnorm

LIBRARIES = ("jax", "jaxlib", "numpy", "jaxtyping", "flax", "optax")
KINDS = ("normalizers", "weight normalizers", "cells", "wrappers", "models by name")


def info() -> str:
    """Describes the installation, for a user and for a report of a defect.

    Returns:
      The versions of this library and of those below it, the devices, what the library has, and where its
      documentation is.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    found = contents()
    lines = [
        f"jaxnorm {jaxnorm.__version__}, in {Path(jaxnorm.__file__).parent}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
        f"devices: {', '.join(f'{device.device_kind} ({device})' for device in jax.devices())}",
        "",
        *(f"{kind}: {', '.join(names)}" for kind, names in found.items()),
        "",
        f"and {len(jaxnorm.zoo.__all__)} names of single papers and libraries in jaxnorm.zoo; weights of others "
        "come by jaxnorm.convert.",
        f"documentation: {documentation()}",
    ]
    return "\n".join(lines)


def contents() -> dict[str, list[str]]:
    """Lists the names of the core by kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in sorted(jaxnorm.__all__, key=str.lower):
        kind = _kind(getattr(jaxnorm, name))
        if kind:
            found[kind].append(name)
    return found


def documentation() -> str:
    """Says where the documentation is: beside the package in a checkout, else in the docstrings."""
    pages = Path(jaxnorm.__file__).parents[1] / "docs" / "index.md"
    if pages.exists():
        return f"{pages.parent}; `make docs` builds the site, docs/guides/quickstart.md is the first page"
    return "help(jaxnorm.unroll) and the other docstrings; the pages are in docs/ of the sources"


def _kind(item: Any) -> str | None:
    home = getattr(item, "__module__", "")
    if home == "jaxnorm.cells.presets" and inspect.isfunction(item):
        return "models by name"
    if not (inspect.isclass(item) and hasattr(item, "__dataclass_fields__")):
        return None
    places = {"cells.wrappers": "wrappers", "cells": "cells", "norms": "normalizers", "weight_norms": KINDS[1]}
    return next((kind for place, kind in places.items() if home.startswith(f"jaxnorm.{place}.")), None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command."""
    parser = argparse.ArgumentParser(prog="python -m jaxnorm", description="Normalizers and recurrent cells for JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("info", help="versions, devices, what is in the library, where the documentation is")
    parser.parse_args(arguments)
    print(info())


if __name__ == "__main__":
    main()
