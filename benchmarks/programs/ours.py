"""Programs of jaxnorm itself."""

from functools import partial
from typing import Any

import jax

import jaxnorm
from benchmarks.programs.base import EPSILON, MOMENTUM, JaxProgram, cell_program, group_count, norm_program
from benchmarks.shapes import Shape

VARIATIONS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours-plain": {"schedule": "plain"},
    "ours-chunked": {"schedule": "chunked"},
    "ours-lean": {"schedule": "chunked", "save": "chunks", "chunk": 64},
}
"""Keywords of ``unroll`` by the name of the program."""


def build_cell(shape: Shape, dtype: str, *, model: str, **options: Any) -> JaxProgram:
    """A cell in training; one with running statistics folds what it measured into them."""
    rows = {"max_steps": shape.steps} if model == "bn_lstm" else {}
    cell = getattr(jaxnorm, model)(shape.hidden, dtype=dtype, **rows)

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        out = jaxnorm.unroll(cell, params, xs, **options)
        return out.outputs, cell.fold(state, out.moments)

    params = cell.init(jax.random.key(0), in_features=shape.inputs)
    return cell_program(apply, params, shape, dtype, state=cell.initial_stats())


PROGRAMS = {
    name: {
        model: partial(build_cell, model=model, **options) for model in ("lstm", "gru", "ln_lstm", "ln_gru", "bn_lstm")
    }
    for name, options in VARIATIONS.items()
}


def build_norm(shape: tuple[int, ...], dtype: str, *, norm: Any) -> JaxProgram:
    """A normalizer in training."""

    def apply(params: Any, state: Any, xs: jax.Array) -> tuple[jax.Array, Any]:
        y, measured = norm(params, xs)
        return y, norm.fold(state, measured)

    weights = norm.param_shape(shape)
    return norm_program(apply, norm.init(weights), shape, dtype, state=norm.initial_stats(weights))


def build_group_norm(shape: tuple[int, ...], dtype: str) -> JaxProgram:
    """Group norm with as many groups as the peers."""
    return build_norm(shape, dtype, norm=jaxnorm.GroupNorm(group_count(shape[-1]), epsilon=EPSILON))


NORMS = {
    "layer_norm": partial(build_norm, norm=jaxnorm.LayerNorm(epsilon=EPSILON)),
    "rms_norm": partial(build_norm, norm=jaxnorm.RMSNorm(epsilon=EPSILON)),
    "batch_norm": partial(build_norm, norm=jaxnorm.BatchNorm(epsilon=EPSILON, momentum=MOMENTUM)),
    "group_norm": build_group_norm,
}
