"""Functions of users as keys of compiled programs, each of which serves while its function holds the same objects."""

import numbers
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnorm._base import objects
from jaxnorm.cells.own_step.closed_calls import held

_CONSTANT = (
    jax.Array,
    np.ndarray,
    np.generic,
    np.dtype,
    numbers.Number,
    str,
    bytes,
    type,
    type(None),
    types.ModuleType,
    types.BuiltinFunctionType,
)


class ProgramKey:
    """A function, and the very objects that it holds."""

    def __init__(self, function: Callable[..., Any], contents: list[Any]) -> None:
        self.function, self._contents = function, contents

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ProgramKey)
            and self.function == other.function
            and len(self._contents) == len(other._contents)
            and all(a is b for a, b in zip(self._contents, other._contents, strict=True))
        )

    def __hash__(self) -> int:
        return hash(self.function)


def program_key(function: Callable[..., Any]) -> ProgramKey | None:
    """The key of a function; None if it holds an object that may change, such as a module with its weights."""
    contents = list(held(function))
    return ProgramKey(function, contents) if all(map(_is_constant, contents)) else None


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    return isinstance(value, _CONSTANT) or objects.is_spec(value)
