r"""The forward pass of cells that are linear in the carry, over all steps at once. It contains no equation of any cell.

Two steps :math:`h \mapsto d_t h + b_t` compose to one step of the same form,

.. math:: (d, b) \text{ then } (d', b') = (d' d, \; d' b + b'),

so an associative scan finds the carry at every step in about log T rounds. The cell's own ``step`` then does the rest
(outputs, norms of other sites) for all steps together, with the carries that the scan found.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array
from jaxnorm.cells.base import LinearCell
from jaxnorm.engine.loops.scan import Given, Passed, Steps, project, select, step


def parallel(cell: LinearCell, given: Given, steps: Steps, *, reverse: bool) -> Passed:
    """Runs a linear cell over time-major steps; values and moments are those of a loop over the steps."""
    ready, carry, _, xs, stats = given
    zs, input_moments = project(cell, ready, xs, stats, steps)
    before = _carries(cell, given, zs, steps, reverse)
    new, ys, moments = jax.vmap(partial(step, cell, ready, stats))(before, zs, cell.recur(ready, before), steps)
    if steps.where is not None:
        new = select(steps.where, new, before)
        ys = select(steps.where, ys, jnp.zeros_like(ys))
    end = 0 if reverse else -1
    last = jax.tree.map(lambda entry: entry[end], new) if xs.shape[0] != 0 else carry
    return Passed(last, ys, (input_moments, moments), ())


def _carries(cell: LinearCell, given: Given, zs: Array, steps: Steps, reverse: bool) -> Any:
    """Computes the carry with which each step begins, after its reset."""
    if zs.shape[0] == 0:
        return jax.tree.map(lambda entry: jnp.zeros((0, *entry.shape), entry.dtype), given.carry)
    decay, increment = cell.coefficients(given.ready, zs)

    def wide(tree: Any) -> Any:
        """Casts carries to the dtype of the coefficients."""
        return jax.tree.map(lambda entry, like: entry.astype(like.dtype), tree, increment)

    if steps.where is not None:
        # A masked step keeps the carry: decay 1, increment 0.
        decay = select(steps.where, decay, jax.tree.map(jnp.ones_like, decay))
        increment = select(steps.where, increment, jax.tree.map(jnp.zeros_like, increment))
    if steps.reset is not None:
        # A step after a reset sees the initial carry, so it must forget all earlier steps: decay 0.
        anew = _apply(decay, jax.tree.map(lambda entry: entry[None], wide(given.initial)), increment)
        increment = select(steps.reset, anew, increment)
        decay = select(steps.reset, jax.tree.map(jnp.zeros_like, decay), decay)
    first = -1 if reverse else 0  # the increment of the first step absorbs the initial carry
    increment = jax.tree.map(lambda d, b, h: b.at[first].add(d[first] * h), decay, increment, wide(given.carry))

    def then(early: Any, late: Any) -> Any:
        (d, b), (d_late, b_late) = early, late
        return jax.tree.map(jnp.multiply, d_late, d), _apply(d_late, b, b_late)

    _, after = lax.associative_scan(then, (decay, increment), reverse=reverse)

    def shifted(start: Array, entry: Array) -> Array:
        entry = entry.astype(start.dtype)
        parts = [entry[1:], start[None]] if reverse else [start[None], entry[:-1]]
        return jnp.concatenate(parts)

    before = jax.tree.map(shifted, given.carry, after)
    if steps.reset is None:
        return before
    begun = jax.tree.map(lambda entry, like: jnp.broadcast_to(entry, like.shape), given.initial, before)
    return select(steps.reset, begun, before)


def _apply(decay: Any, carry: Any, increment: Any) -> Any:
    return jax.tree.map(lambda d, h, b: d * h + b, decay, carry, increment)
