r"""The backward pass of the chunked method. It contains no equation of any cell.

The forward pass saves carries. The backward pass goes from the last chunk to the first. In each it rebuilds the
products of the inputs and of the state with one matrix product each, unless the forward pass saved them, too. A loop
then applies the transpose of ``step`` with respect to (carry, x_proj, h_proj) and the transpose of ``project_state``
with respect to the carry, and records the cotangents of x_proj, of h_proj and of the outputs of each step. After the
loop, the gradients of the recurrent kernel, the input kernel and the inputs take one product each; one derivative of
``step`` over all steps of the chunk gives the gradients of all small weights. So no gradient of a weight accumulates
step by step.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.devices import find_target
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry, Products, Weights
from jaxnorm.cells.preactivation.matmul import RecurrentKernel
from jaxnorm.engine.arguments.sharding import zeros_beside
from jaxnorm.engine.loops.chunks import scan_chunks
from jaxnorm.engine.loops.differentiable import differentiable, join, vjp
from jaxnorm.engine.loops.hoisted_vmap import vmap_hoisting_constants
from jaxnorm.engine.loops.method_results import transpose_state
from jaxnorm.engine.loops.products import find_products
from jaxnorm.engine.loops.scan import normalize_inputs, project_inputs, scan_steps, select, step_input, steps_in_a_round
from jaxnorm.engine.records import CarryOutputs, Chunk, ChunkPlan, LoopInputs, LoopOutputs, PerStep, Saved
from jaxnorm.norms.core.moments import statistics_dtype


class Residuals(NamedTuple):
    """What the forward pass saves."""

    inputs: LoopInputs
    steps: PerStep
    saved: Saved
    """What is saved of each step; empty if only the carries before chunks are saved."""
    first: Carry
    """The carry before each chunk; empty if those before each step are saved."""


class _Sums(NamedTuple):
    """Cotangents that accumulate from chunk to chunk, in at least float32."""

    weights: Any
    initial: Any
    stats: Any


def backward(plan: ChunkPlan, residuals: Residuals, cotangents: LoopOutputs) -> LoopInputs:
    """Computes the cotangents of the inputs of the forward pass; None for leaves without derivatives."""
    inputs, steps, saved, first = residuals
    weights, stats, cell = inputs.weights, inputs.stats, plan.cell
    transposed = _transpose_kernels(weights)

    def step(weights: Weights, stats: Any, carry: Carry, projections: tuple[PyTree, Products], t: PerStep) -> Any:
        return cell.step(weights, carry, step_input(*projections, stats, t))

    def chunk(state: tuple[Carry, _Sums], part: Chunk) -> tuple[tuple[Carry, _Sums], Chunk]:
        d_carry, sums = state
        xs, d_outputs = part.in_layout
        steps, saved, d_input_moments, d_step_moments, d_carries = part.time_major
        if plan.save == "chunks":  # run the chunk again to recover the carries that were not saved
            again = partial(scan_steps, cell, inputs, reverse=plan.reverse, carries=CarryOutputs("carries"))
            saved = again(part.per_chunk, Chunk(xs, steps, ()))[1].time_major[2]
        before = saved.carry

        def project_x(weights: Weights, xs: Array, stats: Any) -> tuple[PyTree, Any]:
            products = project_inputs(cell, weights, xs, steps)
            products = find_products(products, saved.x_products) if plan.save == "products" else products
            return normalize_inputs(cell, weights, xs, products, stats, steps)

        def project_h(weights: Weights) -> Products:
            products = cell.project_state(weights, before)
            return find_products(products, saved.h_products) if plan.save == "products" else products

        (x_proj, _), transpose_inputs = vjp(project_x, weights, xs, stats)
        h_proj, transpose_product = vjp(project_h, weights)
        projections = (x_proj, h_proj)

        # The factors of the derivative depend on no cotangent: compute them for all steps at once, before the loop.
        def transpose_step(carry: Carry, projections: tuple[PyTree, Products], t: PerStep) -> Any:
            return vjp(lambda c, p: step(weights, stats, c, p, t), carry, projections)[1]

        transposes, rebuild = vmap_hoisting_constants(transpose_step, before, projections, steps)

        def body(state: tuple[Carry, Carry], per_step: Any) -> tuple[tuple[Carry, Carry], Any]:
            d_after, d_initial = state
            transpose, carry, d_y, d_moments, d_returned, t = per_step
            if plan.carries:  # the carry after the step goes to the next step, and to the caller
                d_after = jax.tree.map(jnp.add, d_after, d_returned)
            d_new, d_skip = d_after, None
            if t.where is not None:  # a masked step passes the cotangent of its carry on unchanged
                nothing = jax.tree.map(jnp.zeros_like, d_after)
                d_new, d_skip = select(t.where, d_after, nothing), select(t.where, nothing, d_after)
                d_y = select(t.where, d_y, jax.tree.map(jnp.zeros_like, d_y))

            d_carry, (d_x_proj, d_h_proj) = rebuild(transpose)((d_new, d_y, d_moments))
            # project_state is linear in the carry, so its transpose needs no forward product.
            d_projected = transpose_state(
                cell, lambda part: cell.project_state(transposed, join(part, carry)), differentiable(carry), d_h_proj
            )
            d_carry = jax.tree.map(jnp.add, d_carry, d_projected)
            if d_skip is not None:
                d_carry = jax.tree.map(jnp.add, d_carry, d_skip)
            if t.reset is not None:  # the cotangent goes to the initial carry instead of the previous step
                nothing = jax.tree.map(jnp.zeros_like, d_carry)
                d_initial = jax.tree.map(_add, d_initial, select(t.reset, d_carry, nothing))
                d_carry = select(t.reset, nothing, d_carry)
            if t.cut is not None:
                d_carry = select(t.cut, jax.tree.map(jnp.zeros_like, d_carry), d_carry)
            return (d_carry, d_initial), (d_x_proj, d_h_proj, d_new, d_y)

        (d_carry, d_initial), (d_x_proj, d_h_proj, d_new, d_y) = lax.scan(
            body, (d_carry, sums.initial), (transposes, before, d_outputs, d_step_moments, d_carries, steps),
            reverse=not plan.reverse, unroll=steps_in_a_round(xs, find_target(xs, inputs)),
        )  # fmt: skip

        # The weights enter in three places (inputs, state, step), so their cotangents are sums of three.
        _, transpose_steps = vjp(
            lambda weights, stats: jax.vmap(partial(step, weights, stats))(before, projections, steps), weights, stats
        )
        d_weights_inputs, d_xs, d_stats_inputs = transpose_inputs((d_x_proj, d_input_moments))
        (d_weights_state,) = transpose_product(d_h_proj)
        d_weights_step, d_stats_step = transpose_steps((d_new, d_y, d_step_moments))
        sums = _Sums(
            jax.tree.map(_add, sums.weights, d_weights_inputs, d_weights_state, d_weights_step),
            d_initial,
            jax.tree.map(_add, sums.stats, d_stats_inputs, d_stats_step),
        )
        return (d_carry, sums), Chunk(d_xs, (), ())

    summed = differentiable((weights, inputs.initial, stats))
    lead = inputs.xs.ndim - plan.feature_axes
    features, places = inputs.xs.shape[lead:], tuple(jax.typeof(inputs.xs).sharding.spec)[lead:]
    (d_carry, sums), results = scan_chunks(
        plan,
        chunk,
        (cotangents.last, _Sums(*jax.tree.map(_zeros, summed))),
        Chunk(
            (inputs.xs, cotangents.outputs),
            (steps, saved, cotangents.input_moments, cotangents.step_moments, cotangents.carries),
            first,
        ),
        jax.tree.map(
            lambda xs: zeros_beside(xs, plan.feature_axes, features, xs.dtype, places), differentiable(inputs.xs)
        ),
        reverse=not plan.reverse,
    )
    d_weights, d_initial, d_stats = (
        jax.tree.map(lambda total, leaf: total.astype(leaf.dtype), totals, tree)
        for totals, tree in zip(sums, summed, strict=True)
    )
    return LoopInputs(d_weights, d_carry, d_initial, results.in_layout, d_stats)


def _transpose_kernels(weights: Weights) -> Weights:
    """Stores each recurrent kernel transposed, the order in which the backward loop multiplies by it."""

    def transpose(node: Any) -> Any:
        if not isinstance(node, RecurrentKernel) or node.matrix is None:
            return node
        # The barrier makes XLA copy once, before the loop, instead of folding the transpose into every step's product.
        swapped = lax.optimization_barrier(jnp.swapaxes(node.matrix, -1, -2))  # type: ignore[no-untyped-call]
        return RecurrentKernel(None, swapped)

    return jax.tree.map(transpose, weights, is_leaf=lambda node: isinstance(node, RecurrentKernel))


def _zeros(leaf: Array) -> Array:
    return jnp.zeros_like(leaf, dtype=statistics_dtype(leaf.dtype))


def _add(total: Array, *parts: Array) -> Array:
    for part in parts:
        total = total + part.astype(total.dtype)
    return total
