"""Decisions that depend on the size of an array and also work in programs that are exported for any size.

``jax.export`` replaces such sizes by symbols. Arithmetic with symbols works, but a comparison raises unless its result
is the same for every value. So code that decides by a size should use these functions.
"""

from typing import Any


def known(size: Any) -> bool:
    """Whether a size is a number and not a symbol."""
    return isinstance(size, int)


def at_least(size: Any, bound: int) -> bool:
    """Whether a size is at least the bound; False for a symbolic size."""
    return known(size) and size >= bound


def divides(divisor: int, size: Any) -> bool:
    """Whether a size is certainly a multiple of the divisor: 12 and ``4*b`` are multiples of 4."""
    return bool(size % divisor == 0)
