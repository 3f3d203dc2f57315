"""The forward pass over a chunk of steps. It holds no equation of any cell.

All that does not depend on the carry is computed for all steps at once, before the loop; the loop body makes one
recurrent product and calls the cell's ``step``.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array
from jaxnorm.cells.base import Cell, Ready


class Steps(NamedTuple):
    """What goes with the input of each step; all with a leading time axis, or None."""

    row: Array | None
    """The row of the running statistics that serves each example."""
    where: Array | None
    """False: the step keeps the carry and puts out zeros."""
    reset: Array | None
    """True: the carry is replaced by the initial one before the step."""
    cut: Array | None
    """True: no gradient passes from the step to the one before."""
    key: Array | None


class Given(NamedTuple):
    """What the forward pass is a differentiable function of."""

    ready: Ready
    carry: Any
    initial: Any
    """The carry that resets put in place; None without resets."""
    xs: Array
    stats: Any
    """Rows of running statistics; None measures."""


class Passed(NamedTuple):
    """What a forward pass gives."""

    last: Any
    """The carry after the last step."""
    outputs: Array
    measured: tuple[Any, Any]
    """Moments of the input site, and of the others, at each step."""
    before: Any
    """The carries with which each step was computed, if they are to be kept."""


def rows(stats: Any, row: Array | None) -> Any:
    """The statistics that serve at a step."""
    return None if stats is None else jax.tree.map(lambda table: table[row], stats)


def project(cell: Cell, ready: Ready, xs: Array, stats: Any, steps: Steps) -> tuple[Array, Any]:
    """The input products of all steps, normalized, and the moments of the input site."""
    if steps.where is not None:
        xs = select(steps.where, xs, jnp.zeros_like(xs))  # what is masked may hold anything
    return cell.project(ready, xs, rows(stats, steps.row), steps.where)


def step(cell: Cell, ready: Ready, stats: Any, carry: Any, z_t: Array, a_t: Array, t: Steps) -> tuple[Any, Array, Any]:
    """The cell's own step, with the statistics that serve there."""
    return cell.step(ready, carry, z_t, a_t, rows(stats, t.row), t.where, t.key)


def forward(cell: Cell, given: Given, steps: Steps, *, reverse: bool, keep: bool) -> Passed:
    """Runs a cell over time-major steps; with ``keep`` the carry before every step is among the results."""
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
    """The entry of the step that comes first, and at each step the entry of the step that comes after it.

    A loop that carries its next entry finds it in an array of its own. XLA's CPU compiler does not vectorize an
    element-wise operation that reads out of the middle of a longer array, which makes it five to twenty times slower.
    """
    if sequence.shape[0] == 0:
        return jnp.zeros(sequence.shape[1:], sequence.dtype), sequence
    return sequence[-1 if reverse else 0], jnp.roll(sequence, 1 if reverse else -1, axis=0)


def select(condition: Array, yes: Any, no: Any) -> Any:
    """Takes each example whole from one of two trees."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
