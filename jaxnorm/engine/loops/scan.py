"""The loop over the steps of a chunk. It contains no equation of any cell.

It computes everything that does not depend on the carry for all steps at once, before the loop. The loop body computes
one recurrent product and calls the cell's ``step``.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry, Cell, Products, StepInput, Weights
from jaxnorm.engine.records import CarryOutputs, Chunk, LoopInputs, PerStep


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
      The carry after the chunk, and a chunk of results: the outputs in ``in_layout``; the moments of the input site,
      the moments of the other sites, the carries before each step and those after it in ``time_major``; the carry
      before the chunk in ``per_chunk``.
    """
    weights, _, initial, _, stats = inputs
    steps: PerStep = chunk.time_major
    x_proj, input_moments = project(cell, weights, chunk.in_layout, stats, steps)
    first = carry if carries.before == "chunks" else ()

    def body(state: tuple[Carry, PyTree], per_step: tuple[PyTree, PerStep]) -> tuple[Any, tuple[Any, Any, Any, Any]]:
        carry, x_proj_t = state
        x_proj_next, t = per_step
        if t.cut is not None:
            carry = select(t.cut, lax.stop_gradient(carry), carry)
        if t.reset is not None:
            carry = select(t.reset, initial, carry)
        h_proj = cell.project_state(weights, carry)
        new, y, moments = cell.step(weights, carry, step_input(x_proj_t, h_proj, stats, t))
        if t.where is not None:
            new = select(t.where, new, carry)
            y = select(t.where, y, jax.tree.map(jnp.zeros_like, y))
        before, after = carry if carries.before == "carries" else (), new if carries.after else ()
        return (new, x_proj_next), (y, moments, before, after)

    x_proj_first, x_proj_next = one_ahead(x_proj, reverse)
    (last, _), (ys, *per_step) = lax.scan(body, (carry, x_proj_first), (x_proj_next, steps), reverse=reverse)
    return last, Chunk(ys, (input_moments, *per_step), first)


def project(cell: Cell, weights: Weights, xs: Array, stats: Any, steps: PerStep) -> tuple[PyTree, Any]:
    """Computes the normalized input products of all steps, and the moments of the input site."""
    if steps.where is not None:
        xs = select(steps.where, xs, jnp.zeros_like(xs))  # masked inputs may hold anything, even NaN
    products = cell.project_inputs(weights, xs)
    return cell.normalize_inputs(weights, xs, products, _rows(stats, steps.row), steps.where, steps.measured)


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
    """

    def entry(a: Array) -> Array:
        return a[-1 if reverse else 0] if a.shape[0] != 0 else jnp.zeros(a.shape[1:], a.dtype)

    # The roll wraps around: the last step carries an entry that nothing reads.
    following = jax.tree.map(lambda a: jnp.roll(a, 1 if reverse else -1, axis=0), sequence)
    return jax.tree.map(entry, sequence), following


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Picks each example from one of two trees, whole."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
