"""The forward pass over a chunk of steps. It contains no equation of any cell.

It computes everything that does not depend on the carry for all steps at once, before the loop. The loop body computes
one recurrent product and calls the cell's ``step``.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array
from jaxnorm.cells.base import Cell, Ready


class Steps(NamedTuple):
    """The inputs of each step besides x; each has a leading time axis, or is None."""

    row: Array | None
    """The row of the running statistics that serves each example."""
    where: Array | None
    """False: the step keeps the carry and outputs zeros."""
    reset: Array | None
    """True: the initial carry replaces the carry before the step."""
    cut: Array | None
    """True: no gradient passes from the step to the previous one."""
    key: Array | None


class Given(NamedTuple):
    """The differentiable inputs of the forward pass."""

    ready: Ready
    carry: Any
    initial: Any
    """The carry that a reset restores; None without resets."""
    xs: Array
    stats: Any
    """Rows of running statistics; None measures the batch."""


class Passed(NamedTuple):
    """The outputs of the forward pass."""

    last: Any
    """The carry after the last step."""
    outputs: Array
    measured: tuple[Any, Any]
    """The moments of the input site, and those of the other sites, at each step."""
    before: Any
    """The carry before each step, after cuts and resets; empty if the caller does not keep them."""


def rows(stats: Any, row: Array | None) -> Any:
    """Looks up the statistics that serve each example at a step."""
    return None if stats is None else jax.tree.map(lambda table: table[row], stats)


def project(cell: Cell, ready: Ready, xs: Array, stats: Any, steps: Steps) -> tuple[Array, Any]:
    """Computes the normalized input products of all steps, and the moments of the input site."""
    if steps.where is not None:
        xs = select(steps.where, xs, jnp.zeros_like(xs))  # masked inputs may hold anything, even NaN
    return cell.project(ready, xs, rows(stats, steps.row), steps.where)


def step(cell: Cell, ready: Ready, stats: Any, carry: Any, z_t: Array, a_t: Array, t: Steps) -> tuple[Any, Array, Any]:
    """Calls the cell's own step with the statistics of that step."""
    return cell.step(ready, carry, z_t, a_t, rows(stats, t.row), t.where, t.key)


def forward(cell: Cell, given: Given, steps: Steps, *, reverse: bool, keep: bool) -> Passed:
    """Runs a cell over time-major steps; with ``keep`` it also returns the carry before every step."""
    ready, carry, initial, xs, stats = given
    zs, input_moments = project(cell, ready, xs, stats, steps)

    def body(state: tuple[Any, Array], step_t: tuple[Array, Steps]) -> tuple[Any, tuple[Array, Any, Any]]:
        carry, z_t = state
        z_next, t = step_t
        if t.cut is not None:
            carry = select(t.cut, lax.stop_gradient(carry), carry)
        if t.reset is not None:
            carry = select(t.reset, initial, carry)
        a_t = cell.recur(ready, carry)
        new, y_t, measured = step(cell, ready, stats, carry, z_t, a_t, t)
        if t.where is not None:
            new = select(t.where, new, carry)
            y_t = select(t.where, y_t, jnp.zeros_like(y_t))
        return (new, z_next), (y_t, measured, carry if keep else ())

    z_first, zs_next = one_ahead(zs, reverse)
    (last, _), (ys, moments, before) = lax.scan(body, (carry, z_first), (zs_next, steps), reverse=reverse)
    return Passed(last, ys, (input_moments, moments), before)


def one_ahead(sequence: Array, reverse: bool) -> tuple[Array, Array]:
    """Returns the entry of the first step, and for each step the entry of the step after it.

    The loop carries its next entry, so each step reads it from a small array. XLA's CPU compiler does not vectorize an
    element-wise operation that reads from the middle of a longer array, which makes it five to twenty times slower.
    """
    if sequence.shape[0] == 0:
        return jnp.zeros(sequence.shape[1:], sequence.dtype), sequence
    # The roll wraps around: the last step carries an entry that nothing reads.
    return sequence[-1 if reverse else 0], jnp.roll(sequence, 1 if reverse else -1, axis=0)


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Picks each example from one of two trees, whole."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
