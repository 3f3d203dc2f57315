"""The carry after each step, as the caller gets it: counted, at the positions of the inputs, in their layout."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Carry, CountedCarry
from jaxnorm.engine.arguments.lengths import real_steps, take_steps
from jaxnorm.engine.loops.scan import select


def lay_carries(
    carries: Carry, start: Carry, age: Array | None, where: Array | None, padding: tuple[Array, Array] | None, axis: int
) -> Carry:
    """Lays the carries of all steps out like the outputs.

    Args:
      carries: the carry after each step, time first, in processing order.
      start: the carry before the first step; with a count of steps if the carries should have one.
      age: the age of each example before each step.
      where: True at real steps, in processing order.
      padding: if the real steps were reversed within their lengths, the order that reverses them back and the lengths.
      axis: the time axis of the result.
    """
    if isinstance(start, CountedCarry) and age is not None:
        carries = CountedCarry(carries, age + (1 if where is None else where.astype(age.dtype)))
    if padding is not None:
        order, lengths = padding
        carries = jax.tree.map(lambda entry: take_steps(entry, order), carries)
        # A run from the last step to the first comes to the padding first, and keeps its first carry there.
        before = jax.tree.map(lambda entry: entry[None], start)
        carries = select(real_steps(lengths, order.shape[0]), carries, before)
    laid: Any = jax.tree.map(lambda entry: jnp.moveaxis(entry, 0, axis), carries)
    return laid
