"""Decisions by the size of an array, also in programs that are exported for any size.

``jax.export`` puts symbols in the place of such sizes. They can be computed with, and a comparison with one raises
where it does not come out the same for every value. What is to be decided by a size of an array asks here.
"""

from typing import Any


def known(size: Any) -> bool:
    """Whether a size is a number."""
    return isinstance(size, int)


def at_least(size: Any, bound: int) -> bool:
    """Whether a size reaches a bound from which on another way is faster; one that is not known does not."""
    return known(size) and size >= bound


def divides(divisor: int, size: Any) -> bool:
    """Whether a size is a multiple of a number whatever it is: 12, and ``4*b``, of 4."""
    return bool(size % divisor == 0)
