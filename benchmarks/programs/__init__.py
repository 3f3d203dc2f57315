"""The programs of every library, by name; a library is imported when its first program is asked for."""

import importlib
import warnings
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from benchmarks.programs.base import Program, Unsupported
from benchmarks.programs.ours import VARIATIONS

PEERS = (
    "linen",
    "linen-optimized",
    "nnx",
    "nnx-optimized",
    "haiku",
    "equinox",
    "keras",
    "cudnn",
    "torch",
)
"""Other libraries' programs; what is before the dash is the file in this folder."""

LIBRARIES = (*VARIATIONS, *PEERS)
JAX_PEERS = tuple(name for name in PEERS if name not in ("torch", "cudnn"))


def is_ours(library: str) -> bool:
    """Whether a program is one of jaxnorm's."""
    return library in VARIATIONS


@cache
def _module(file: str) -> ModuleType | str:
    """The module with a library's programs, or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import libraries warn about their own affairs
        try:
            return importlib.import_module(f"benchmarks.programs.{file}")
        except ImportError as error:
            return str(error)


def why_missing(library: str) -> str | None:
    """Why a library cannot be measured here; None if it can."""
    found = _module(library.partition("-")[0])
    return found if isinstance(found, str) else None


def offers(library: str, model: str) -> bool:
    """Whether a library that can be measured has a program for a model or a normalizer."""
    module = _module(library.partition("-")[0])
    return model in getattr(module, "PROGRAMS", {}).get(library, {}) or model in _norms(library)


def _norms(library: str) -> dict[str, Any]:
    """The normalizers; they do not differ between the programs of one library."""
    found: dict[str, Any] = {} if "-" in library else getattr(_module(library), "NORMS", {})
    return found


@lru_cache(maxsize=64)  # both directions of a family of models use the same
def build(library: str, model: str, shape: Any, dtype: str) -> Program:
    """A program with weights and data.

    Raises:
      Unsupported: the library cannot do this; the message says why.
    """
    if model == "bn_lstm" and shape.batch == 1:
        raise Unsupported("a single example has no batch statistics")
    module = _module(library.partition("-")[0])
    builders = {**module.PROGRAMS.get(library, {}), **_norms(library)}  # type: ignore[union-attr]
    program: Program = builders[model](shape, dtype)
    return program
