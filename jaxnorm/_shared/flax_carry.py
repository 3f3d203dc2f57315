"""The carry before the first step, as the cells of Flax make it: in Flax's form, perhaps drawn by an initializer."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Initializer, PyTree
from jaxnorm.cells.base import Carry, Cell
from jaxnorm.engine.arguments.carry_forms import flax_form


def flax_carry(
    cell: Cell, batch_shape: tuple[int, ...], params: PyTree, key: Any, carry_init: Initializer | None
) -> Carry:
    """Makes the carry in the form of Flax; ``carry_init`` draws its entries in place of the cell.

    A cell with ``initial_noise`` adds none then, and a learned carry is not used. A count of steps begins at zero.
    """
    if carry_init is None:
        return flax_form(cell, cell.initial_carry(batch_shape, params=params, key=key))
    if key is None:
        raise ValueError(
            "RNNCell.initialize_carry: carry_init needs randomness, but there is none. Pass rngs, or a key as rng."
        )
    entries, structure = jax.tree.flatten(cell.initial_carry(batch_shape, params=params, key=key))
    drawn = [  # a count is an integer: keep it
        carry_init(k, entry.shape, entry.dtype) if jnp.issubdtype(entry.dtype, jnp.floating) else entry
        for k, entry in zip(jax.random.split(key, len(entries)), entries, strict=True)
    ]
    return flax_form(cell, jax.tree.unflatten(structure, drawn))
