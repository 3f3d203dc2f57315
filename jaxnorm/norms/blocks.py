"""Large data, a block of rows at a time."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from jaxnorm._single_cpu import on_single_cpu
from jaxnorm._typing import Array

LARGE = 2**20
"""Elements of data that no cache of a core holds."""
BLOCK = 2**18
"""Elements of data that one holds."""


def by_blocks(function: Callable[[Array], Any], x: Array) -> Any:
    """Applies a function of rows, which keeps their axis, to all of them.

    A function that takes several passes over data reads large data from memory several times; a block stays in the
    cache of a CPU. What it returns are arrays of their own then, while XLA's CPU compiler otherwise writes out
    what belongs to a row as large as the data. Accelerators get the function as it is.
    """
    shape = cut(x)
    if shape is None:
        return function(x)

    def blocks(x: Array) -> Any:
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lax.map(function, x.reshape(shape)))

    return on_single_cpu(blocks, function, x)


def cut(x: Array) -> tuple[int, ...] | None:
    """The shape (blocks, rows, ...) of data that are gone through in blocks; None for those that are not."""
    if x.size < LARGE:
        return None
    rows = len(x)
    most = max(1, BLOCK * rows // x.size)
    length = next(size for size in range(most, 0, -1) if rows % size == 0)
    return (rows // length, length, *x.shape[1:]) if 4 * length >= most and length < rows else None
