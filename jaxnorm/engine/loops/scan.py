"""The loop over the steps of a chunk. It contains no equation of any cell.

It computes everything that does not depend on the carry for all steps at once, before the loop. The loop body computes
one recurrent product and calls the cell's ``step``.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.devices import Target, find_target, is_gpu
from jaxnorm._base.sizes import known
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry, Cell, Products, StepInput, Weights
from jaxnorm.engine.loops.differentiable import narrowed, widened
from jaxnorm.engine.loops.method_results import check_normalized, check_step
from jaxnorm.engine.loops.products import narrow, round_products
from jaxnorm.engine.records import CarryOutputs, Chunk, LoopInputs, PerStep, Saved


def scan_steps(
    cell: Cell, inputs: LoopInputs, carry: Carry, chunk: Chunk, *, reverse: bool, carries: CarryOutputs
) -> tuple[Carry, Chunk]:
    """Runs a cell over the steps of a chunk.

    Args:
      cell: the cell.
      inputs: the inputs of the whole sequence; carry and xs are those of the chunk instead.
      carry: the carry before the chunk.
      chunk: xs in ``in_layout`` and PerStep in ``time_major``, both with time first.
      reverse: whether to go from the last step to the first.
      carries: the carries to return with the results.

    Returns:
      The carry after the chunk, and a chunk of results, the outputs in ``in_layout``; the moments of the input site,
      the moments of the other sites, what is saved of each step and the carries after it in ``time_major``; the carry
      before the chunk in ``per_chunk``.
    """
    weights, _, initial, _, stats = inputs
    steps: PerStep = chunk.time_major
    products = round_products(project_inputs(cell, weights, chunk.in_layout, steps), carries.rounding)
    x_proj, input_moments = normalize_inputs(cell, weights, chunk.in_layout, products, stats, steps)
    saves_products = carries.before == "products"
    first = carry if carries.before == "chunks" else ()

    # JAX adds to the gradient of a weight at each step, in the dtype in which the weight comes into the loop.
    wide = widened(inputs.weights) if carries.wide_sums else inputs.weights

    def body(state: tuple[Carry, PyTree], per_step: tuple[PyTree, PerStep]) -> tuple[Any, tuple[Any, Any, Any, Any]]:
        weights = narrowed(wide, inputs.weights) if carries.wide_sums else inputs.weights
        carry, x_proj_ahead = state
        x_proj_t, t = per_step
        if ahead:
            x_proj_t, x_proj_ahead = x_proj_ahead, x_proj_t
        if t.cut is not None:
            carry = select(t.cut, lax.stop_gradient(carry), carry)
        if t.reset is not None:
            carry = select(t.reset, initial, carry)
        h_proj = round_products(cell.project_state(weights, carry), carries.rounding)
        result = cell.step(weights, carry, step_input(x_proj_t, h_proj, stats, t))
        new, y, moments = check_step(cell, result, carry)
        if t.where is not None:
            new = select(t.where, new, carry)
            y = select(t.where, y, jax.tree.map(jnp.zeros_like, y))
        saved = Saved(
            carry=carry if saves_products or carries.before == "carries" else (),
            h_products=narrow(h_proj, carries.rounding) if saves_products else (),
        )
        return (new, x_proj_ahead), (y, moments, saved, new if carries.after else ())

    target = find_target(chunk.in_layout, inputs)
    ahead = target.platform == "cpu" and chunk.in_layout.shape[0] != 0
    x_proj_ahead, x_proj = one_ahead(x_proj, reverse) if ahead else ((), x_proj)
    (last, _), (ys, moments, saved, after) = lax.scan(
        body, (carry, x_proj_ahead), (x_proj, steps), reverse=reverse, unroll=steps_in_a_round(chunk.in_layout, target)
    )
    if saves_products:
        saved = saved._replace(x_products=narrow(products, carries.rounding))
    return last, Chunk(ys, (input_moments, moments, saved, after), first)


def steps_in_a_round(xs: Array, target: Target) -> int:
    """The number of steps in a round of the loop over a chunk.

    On a GPU each round starts kernels of its own: one counts it, one for each sequence writes what the round computed.
    Eight steps share them.
    """
    steps = xs.shape[0]
    return max(1, min(8, steps)) if known(steps) and is_gpu(target.platform) else 1


def project(cell: Cell, weights: Weights, xs: Array, stats: Any, steps: PerStep) -> tuple[PyTree, Any]:
    """Computes the normalized input products of all steps, and the moments of the input site."""
    return normalize_inputs(cell, weights, xs, project_inputs(cell, weights, xs, steps), stats, steps)


def project_inputs(cell: Cell, weights: Weights, xs: Array, steps: PerStep) -> Products:
    """Computes the input products of all steps."""
    return cell.project_inputs(weights, _real(xs, steps))


def normalize_inputs(
    cell: Cell, weights: Weights, xs: Array, products: Products, stats: Any, steps: PerStep
) -> tuple[PyTree, Any]:
    """Normalizes the input products of all steps; also returns the moments of the input site."""
    rows = _rows(stats, steps.row)
    result = cell.normalize_inputs(weights, _real(xs, steps), products, rows, steps.where, steps.measured)
    return check_normalized(cell, result)


def _real(xs: Array, steps: PerStep) -> Array:
    """Replaces masked inputs, which may hold anything, even NaN, by zeros."""
    return xs if steps.where is None else select(steps.where, xs, jnp.zeros_like(xs))


def step_input(x_proj: PyTree, h_proj: Products, stats: Any, t: PerStep) -> StepInput:
    """Gathers what the cell's own step gets, with the statistics of that step."""
    return StepInput(x_proj, h_proj, _rows(stats, t.row), t.where, t.key, t.measured, age=t.age)


def _rows(stats: Any, row: Array | None) -> Any:
    """Looks up the statistics that serve each example at a step."""
    return None if stats is None else jax.tree.map(lambda table: _look_up(table, row), stats)


def _look_up(table: Array, row: Any) -> Array:
    sharding = jax.typeof(row).sharding
    if not any(sharding.spec):
        return table[row]
    # On a mesh with explicit axes the sharding of what is read has to be said.
    spec = PartitionSpec(*sharding.spec, *(None,) * (table.ndim - 1))  # type: ignore[no-untyped-call]
    found: Array = table.at[row].get(out_sharding=NamedSharding(sharding.mesh, spec))
    return found


def one_ahead(sequence: PyTree, reverse: bool) -> tuple[PyTree, PyTree]:
    """Returns the entry of the first step, and for each step the entry of the step after it.

    The loop carries its next entry, so each step reads it from a small array. XLA's CPU compiler does not vectorize an
    element-wise operation that reads from the middle of a longer array, which makes it five to twenty times slower.
    Other devices read where the entry lies, and need no copy of the sequence.
    """
    # The roll wraps around: the last step carries an entry that nothing reads.
    following = jax.tree.map(lambda a: jnp.roll(a, 1 if reverse else -1, axis=0), sequence)
    return jax.tree.map(lambda a: a[-1 if reverse else 0], sequence), following


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Picks each example from one of two trees, whole."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
