"""The loop: the one place with a ``lax.scan``. It holds no equation of any cell.

All that does not depend on the carry is computed for all steps at once, before the loop; the loop body makes one
recurrent product and calls the cell's ``step``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._typing import Array
from jaxnorm.cells.base import Cell, Ready, combine_sites


class Steps(NamedTuple):
    """What goes with the input of each step; all with a leading time axis, or None."""

    row: Array | None
    where: Array | None
    reset: Array | None
    key: Array | None


def forward(
    cell: Cell, ready: Ready, carry: Any, initial: Any, xs: Array, steps: Steps, stats: Any, *, reverse: bool
) -> tuple[Any, Array, Any]:
    """Runs a cell over time-major steps; returns the last carry, the outputs and the moments of each step.

    ``initial`` replaces the carry before steps with ``reset``; steps without ``where`` keep the carry and put out
    zeros. ``stats`` holds rows, ``steps.row`` says which of them serve at a step.
    """

    def rows(row: Array | None) -> Any:
        return None if stats is None else jax.tree.map(lambda table: table[row], stats)

    def project(x_t: Array, row: Array | None, where: Array | None) -> tuple[Array, Any]:
        return cell.project(ready, x_t, rows(row), where)

    zs, input_moments = jax.vmap(project)(xs, steps.row, steps.where)

    def body(carry: Any, step_t: tuple[Array, Steps]) -> tuple[Any, tuple[Array, Any]]:
        z_t, t = step_t
        if t.reset is not None:
            carry = _select(t.reset, initial, carry)
        a_t = cell.recur(ready, carry)
        new, y_t, measured = cell.step(ready, carry, z_t, a_t, rows(t.row), t.where, t.key)
        if t.where is not None:
            new = _select(t.where, new, carry)
            y_t = _select(t.where, y_t, jnp.zeros_like(y_t))
        return new, (y_t, measured)

    last, (ys, moments) = lax.scan(body, carry, (zs, steps), reverse=reverse)
    return last, ys, combine_sites(input_moments, moments)


def _select(condition: Array, yes: Any, no: Any) -> Any:
    """Takes each example whole from one of two trees."""

    def pick(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(pick, yes, no)
