"""Plans a run over a sequence in chunks: how long a chunk is, and what the loop writes."""

import math

import jax
import jax.numpy as jnp

from jaxnorm._base.devices import find_target
from jaxnorm._base.sizes import known
from jaxnorm._base.typing import PyTree
from jaxnorm.cells.base import Cell, Products
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import layout_shape
from jaxnorm.engine.arguments.options import Options
from jaxnorm.engine.arguments.prepared import Prepared
from jaxnorm.engine.arguments.sharding import feature_sharding
from jaxnorm.engine.loops.chunks import chunk_length, count_features
from jaxnorm.engine.loops.products import narrows
from jaxnorm.engine.records import ChunkPlan, LoopInputs, Save


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
    places = tuple(feature_sharding(leaf, len(layout)) for leaf in leaves)
    save = options.save or choose_save(cell, call, time, target.platform)
    return ChunkPlan(
        cell, length, time, axes, tree, of_example, places, call.reverse, save, call.dtype,
        carries=options.return_carries,
    )  # fmt: skip


def choose_save(cell: Cell, call: Prepared, time: int, platform: str) -> Save:
    """Chooses what the forward pass saves: products where that costs no more memory than a plain loop, on CPUs.

    JAX saves, for the derivative of a plain loop, ``x_proj``, the gates before and after their nonlinearities, and
    carries. An accelerator computes products again in less time than it takes to read them. Products that would be
    rounded are not saved unless asked for, so a choice changes no value. Where a size is unknown, we save carries.
    """
    inputs = call.inputs
    if platform != "cpu" or not all(map(known, inputs.xs.shape)):
        return "carries"

    def products(inputs: LoopInputs) -> tuple[Products, Products]:
        weights, xs = inputs.weights, jnp.moveaxis(inputs.xs, time, 0)
        return cell.project_inputs(weights, xs), cell.project_state(weights, inputs.carry)

    x_products, h_products = jax.eval_shape(products, inputs)
    if any(narrows(leaf, call.dtype) for leaf in jax.tree.leaves((x_products, h_products))):
        return "carries"
    gates = hooks(cell).gate_count * count_features(inputs.carry, len(call.batch_shape)) * math.prod(call.batch_shape)
    state = sum(leaf.size for leaf in jax.tree.leaves(h_products))  # the products of the inputs are as large as x_proj
    return "products" if state <= 2 * gates else "carries"
