r"""The forward pass of cells that are linear in the carry, over all steps at once. It contains no equation of any cell.

Two steps :math:`h \mapsto d_t h + b_t` compose to one step of the same form,

.. math:: (d, b) \text{ then } (d', b') = (d' d, \; d' b + b'),

so an associative scan finds the carry at every step in about log T rounds. The cell's own ``step`` then does the rest
(outputs, norms of other sites) for all steps together, with the carries that the scan found.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry, LinearCell, Products
from jaxnorm.engine.loops.scan import project, select, step_input
from jaxnorm.engine.records import LoopInputs, LoopOutputs, PerStep


def associative(
    cell: LinearCell, inputs: LoopInputs, steps: PerStep, *, reverse: bool, carries: bool = False
) -> LoopOutputs:
    """Runs a linear cell over time-major steps; values and moments are those of a loop over the steps."""
    weights, carry, _, xs, stats = inputs
    x_proj, input_moments = project(cell, weights, xs, stats, steps)
    if xs.shape[0] == 0:  # nothing to scan: the first carry is the last
        before = jax.tree.map(lambda entry: jnp.zeros((0, *entry.shape), entry.dtype), carry)
    else:
        before = _carries(cell, inputs, x_proj, steps, reverse=reverse)

    def step(carry: Carry, x_proj: PyTree, h_proj: Products, t: PerStep) -> Any:
        return cell.step(weights, carry, step_input(x_proj, h_proj, stats, t))

    new, ys, moments = jax.vmap(step)(before, x_proj, cell.project_state(weights, before), steps)
    if steps.where is not None:
        new = select(steps.where, new, before)
        ys = select(steps.where, ys, jax.tree.map(jnp.zeros_like, ys))
    end = 0 if reverse else -1
    last = jax.tree.map(lambda entry: entry[end], new) if xs.shape[0] != 0 else carry
    return LoopOutputs(last, ys, input_moments, moments, new if carries else ())


def _carries(cell: LinearCell, inputs: LoopInputs, x_proj: PyTree, steps: PerStep, *, reverse: bool) -> Carry:
    """Computes the carry with which each step begins, after its reset."""
    more: Any = {} if steps.age is None else {"age": steps.age}
    decay, increment = cell.coefficients(inputs.weights, x_proj, **more)

    def wide(tree: Any) -> Any:
        """Casts carries to the dtype of the coefficients."""
        return jax.tree.map(lambda entry, like: entry.astype(like.dtype), tree, increment)

    if steps.where is not None:
        # A masked step keeps the carry: decay 1, increment 0.
        decay = select(steps.where, decay, jax.tree.map(jnp.ones_like, decay))
        increment = select(steps.where, increment, jax.tree.map(jnp.zeros_like, increment))
    if steps.reset is not None:
        # A step after a reset sees the initial carry, so it must forget all earlier steps: decay 0.
        anew = _apply(decay, jax.tree.map(lambda entry: entry[None], wide(inputs.initial)), increment)
        increment = select(steps.reset, anew, increment)
        decay = select(steps.reset, jax.tree.map(jnp.zeros_like, decay), decay)
    first = -1 if reverse else 0  # the increment of the first step absorbs the initial carry
    increment = jax.tree.map(lambda d, b, h: b.at[first].add(d[first] * h), decay, increment, wide(inputs.carry))

    def compose(early: Any, late: Any) -> Any:
        (d, b), (d_late, b_late) = early, late
        return jax.tree.map(jnp.multiply, d_late, d), _apply(d_late, b, b_late)

    _, after = lax.associative_scan(compose, (decay, increment), reverse=reverse)

    def shift(start: Array, entry: Array) -> Array:
        entry = entry.astype(start.dtype)
        parts = [entry[1:], start[None]] if reverse else [start[None], entry[:-1]]
        return jnp.concatenate(parts)

    before = jax.tree.map(shift, inputs.carry, after)
    if steps.reset is None:
        return before
    initial = jax.tree.map(lambda entry, like: jnp.broadcast_to(entry, like.shape), inputs.initial, before)
    return select(steps.reset, initial, before)


def _apply(decay: Any, carry: Any, increment: Any) -> Any:
    return jax.tree.map(lambda d, h, b: d * h + b, decay, carry, increment)
