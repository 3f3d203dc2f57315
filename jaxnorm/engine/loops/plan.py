"""Plans a run over a sequence in chunks: how long a chunk is, and what the loop writes."""

import math

import jax

from jaxnorm._base.typing import PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import layout_shape
from jaxnorm.engine.arguments.options import Options
from jaxnorm.engine.arguments.prepared import Prepared
from jaxnorm.engine.arguments.target import find_target
from jaxnorm.engine.loops.chunks import chunk_length, count_features
from jaxnorm.engine.records import ChunkPlan


def plan_chunks(cell: Cell, options: Options, call: Prepared, outputs: PyTree) -> ChunkPlan:
    """Plans the run of a call; ``outputs`` are the shapes and dtypes of the outputs of all steps."""
    inputs, time, axes = call.inputs, options.time, hooks(cell).feature_axes
    layout = layout_shape(inputs.xs, axes)
    target = find_target(inputs.xs, inputs.weights)
    rows = math.prod(call.batch_shape) // target.parts
    features = hooks(cell).gate_count * count_features(inputs.carry, len(call.batch_shape))
    length = options.chunk or chunk_length(layout[time], rows, features, target.platform)
    leaves, tree = jax.tree.flatten(outputs)
    of_example = tuple(leaf.update(shape=leaf.shape[len(layout) :], sharding=None) for leaf in leaves)
    return ChunkPlan(
        cell, length, time, axes, tree, of_example, call.reverse, options.save, carries=options.return_carries
    )
