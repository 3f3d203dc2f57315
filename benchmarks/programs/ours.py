"""Programs of jaxnorm itself."""

from functools import partial
from typing import Any

import jax

import jaxnorm
from benchmarks.programs.base import JaxProgram, Unsupported, cell_program, norm_program
from benchmarks.programs.normalizers import SPECS
from benchmarks.programs.presets import PARALLEL, PRESETS
from benchmarks.shapes import Shape
from jaxnorm.cells.hooks import hooks

VARIATIONS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours-plain": {"method": "scan"},
    "ours-chunked": {"method": "chunked"},
    "ours-64": {"method": "chunked", "chunk": 64},
    "ours-lean": {"method": "chunked", "save": "chunks", "chunk": 64},
}
"""Keywords of ``unroll`` by the name of the program."""


def build_cell(shape: Shape, dtype: str, *, model: str, **options: Any) -> JaxProgram:
    """A cell in training; one with running statistics folds what it measured into them."""
    cell = PRESETS[model](shape.hidden, shape.steps, dtype)
    if model.endswith(PARALLEL):
        if options:
            raise Unsupported("it has a method of its own")
        options = {"method": "associative"}
    key = jax.random.key(1) if hooks(cell).needs_key else None

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        out = jaxnorm.unroll(cell, params, xs, key=key, **options)
        return out.outputs, cell.update_running(state, out.moments)

    params = cell.init(jax.random.key(0), in_features=shape.inputs)
    return cell_program(apply, params, shape, dtype, state=cell.initial_stats())


PROGRAMS = {
    name: {model: partial(build_cell, model=model, **options) for model in PRESETS}
    for name, options in VARIATIONS.items()
}


def build_norm(shape: tuple[int, ...], dtype: str, *, name: str) -> JaxProgram:
    """A normalizer in training, running statistics folded."""
    norm = SPECS[name](shape)
    if norm is None:
        raise Unsupported("it takes statistics over positions, and there are none")

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        y, measured = norm.train(params, xs, state)
        return y, norm.update_running(state, measured)

    weights = norm.param_shape(shape)
    return norm_program(apply, norm.init(weights), shape, dtype, state=norm.initial_stats(weights))


NORMS = {name: partial(build_norm, name=name) for name in SPECS}
