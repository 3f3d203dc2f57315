"""What is measured: comparisons, each of which is a set of programs that are timed side by side."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import jax

from benchmarks.errors import BadInput, check_names
from benchmarks.programs import LIBRARIES, PEERS
from benchmarks.programs.base import DIRECTIONS, DTYPES
from benchmarks.programs.normalizers import SPECS, names_for
from benchmarks.programs.presets import PRESETS
from benchmarks.shapes import (
    BFLOAT16_SHAPES,
    CPU_SHAPES,
    GPU_SHAPES,
    NORM_SHAPES,
    PRESET_SHAPE,
    SERIES,
    SHAPES,
    TINY,
    name_of,
)

GROUPS = ("cells", "norms", "growth", "costs", "presets", "imports")
FAMILIES = (("lstm", "ln_lstm", "bn_lstm"), ("gru", "ln_gru"))
"""A normalized cell is timed beside the plain cells of its family, since it is compared with them."""
CELLS = tuple(model for family in FAMILIES for model in family)
NORMS = ("layer_norm", "rms_norm", "batch_norm", "group_norm")
IMPORTED = {"ours": "jaxnorm", "linen": "flax.linen", "nnx": "flax.nnx", "haiku": "haiku", "equinox": "equinox"}
"""What is imported of a library."""


class Comparison(NamedTuple):
    """Programs that are timed side by side: all of these models in all of these libraries."""

    group: str
    shape_name: str
    shape: Any
    models: tuple[str, ...]
    libraries: tuple[str, ...]
    dtype: str
    direction: str

    def __str__(self) -> str:
        models = self.models[0] if len(self.models) == 1 else f"{self.models[0]} ..."
        return f"{self.group} {self.shape_name} {models} {self.dtype} {self.direction}"


class Choice(NamedTuple):
    """What was asked for; None leaves it to each group. A group takes of the names those that it knows."""

    groups: Sequence[str] = GROUPS
    shapes: Sequence[str] | None = None
    models: Sequence[str] | None = None
    libraries: Sequence[str] | None = None
    dtypes: Sequence[str] | None = None
    directions: Sequence[str] | None = None


KNOWN = {
    "groups": GROUPS,
    "shapes": (*SHAPES, *(name for name in NORM_SHAPES if name != TINY), *(name for name in SERIES if name != TINY)),
    "models": tuple(dict.fromkeys((*CELLS, *NORMS, *SPECS, *PRESETS))),
    "libraries": LIBRARIES,
    "dtypes": DTYPES,
    "directions": DIRECTIONS,
}


def plan(choice: Choice) -> list[Comparison]:
    """All comparisons, in the order in which they are made.

    Raises:
      BadInput: a name is unknown, or nothing is left.
    """
    for option, names in choice._asdict().items():
        check_names("groups" if option == "groups" else f"--{option}", names or (), KNOWN[option])
    made = {
        "cells": _cells,
        "norms": _norms,
        "growth": _growth,
        "costs": _costs,
        "presets": _presets,
        "imports": _imports,
    }
    comparisons = [comparison for group in GROUPS if group in choice.groups for comparison in made[group](choice)]
    if not comparisons:
        raise BadInput("nothing is measured: no group has these shapes and models. See --help.")
    return comparisons


def _pick(asked: Sequence[str] | None, known: Iterable[str], default: Iterable[str]) -> tuple[str, ...]:
    return tuple(default) if asked is None else tuple(name for name in known if name in asked)


def _cells(choice: Choice) -> Iterator[Comparison]:
    usual = CPU_SHAPES if jax.default_backend() == "cpu" else GPU_SHAPES
    libraries = _pick(choice.libraries, LIBRARIES, ("ours", *PEERS))
    for shape in _pick(choice.shapes, SHAPES, usual):
        dtypes = _pick(choice.dtypes, DTYPES, DTYPES if shape in BFLOAT16_SHAPES else ("float32",))
        for dtype, family, direction in product(dtypes, FAMILIES, _pick(choice.directions, DIRECTIONS, DIRECTIONS)):
            models = _pick(choice.models, family, family)
            if models:
                yield Comparison("cells", shape, SHAPES[shape], models, libraries, dtype, direction)


def _norms(choice: Choice) -> Iterator[Comparison]:
    for shape, model, dtype, direction in product(
        _pick(choice.shapes, NORM_SHAPES, (name for name in NORM_SHAPES if name != TINY)),
        _pick(choice.models, NORMS, NORMS),
        _pick(choice.dtypes, DTYPES, DTYPES),
        _pick(choice.directions, DIRECTIONS, DIRECTIONS),
    ):
        libraries = _pick(choice.libraries, LIBRARIES, ("ours", *PEERS))
        yield Comparison("norms", shape, NORM_SHAPES[shape], (model,), libraries, dtype, direction)


def _growth(choice: Choice) -> Iterator[Comparison]:
    for series, model, dtype, direction in product(
        _pick(choice.shapes, SERIES, (name for name in SERIES if name != TINY)),
        _pick(choice.models, CELLS, ("ln_lstm",)),
        _pick(choice.dtypes, DTYPES, ("float32",)),
        _pick(choice.directions, DIRECTIONS, ("gradient",)),
    ):
        libraries = _pick(choice.libraries, LIBRARIES, ("ours", "ours-lean", "linen"))
        for shape in SERIES[series]:
            name = f"{series}:{name_of(shape)}"
            yield Comparison("growth", name, shape, (model,), libraries, dtype, direction)


def _costs(choice: Choice) -> Iterator[Comparison]:
    """All normalizers of ours side by side."""
    for shape, dtype, direction in product(
        _pick(choice.shapes, NORM_SHAPES, (name for name in NORM_SHAPES if name != TINY)),
        _pick(choice.dtypes, DTYPES, DTYPES),
        _pick(choice.directions, DIRECTIONS, DIRECTIONS),
    ):
        names = names_for(NORM_SHAPES[shape])
        models, libraries = _pick(choice.models, names, names), _pick(choice.libraries, ("ours",), ("ours",))
        if models and libraries:
            yield Comparison("costs", shape, NORM_SHAPES[shape], models, libraries, dtype, direction)


def _presets(choice: Choice) -> Iterator[Comparison]:
    """All cells and presets of ours side by side, each in training."""
    for shape, dtype, direction in product(
        _pick(choice.shapes, SHAPES, (PRESET_SHAPE,)),
        _pick(choice.dtypes, DTYPES, ("float32",)),
        _pick(choice.directions, DIRECTIONS, DIRECTIONS),
    ):
        models, libraries = _pick(choice.models, PRESETS, PRESETS), _pick(choice.libraries, ("ours",), ("ours",))
        if models and libraries:
            yield Comparison("presets", shape, SHAPES[shape], models, libraries, dtype, direction)


def _imports(choice: Choice) -> Iterator[Comparison]:
    """Importing the libraries that are built on JAX."""
    libraries = _pick(choice.libraries, IMPORTED, IMPORTED)
    if libraries and choice.shapes is choice.models is choice.dtypes is choice.directions is None:
        yield Comparison("imports", "beyond jax", None, ("import",), libraries, "-", "import")
