"""What is known of an array in a program: where its examples lie, or along which axes all its entries are equal."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.sizes import known


class Apart(NamedTuple):
    """An array with the examples along one axis; each entry there depends on its own example alone."""

    axis: int
    outer: int = 1
    """Number of entries, such as steps, of which the axis has all examples each, where a reshape has merged axes."""
    inner: int = 1
    """Number of entries of the axis that each example has there."""


class Shared(NamedTuple):
    """An array that depends on no example; along the axes ``same`` all its entries are equal."""

    same: frozenset[int]


State: TypeAlias = Apart | Shared


class SeesOthersError(Exception):
    """An operation in which an example may look at another, or at its own place in the batch."""


def shared_value(value: Any) -> Shared:
    """The state of an array of which nothing is known but its shape."""
    shape = getattr(value, "shape", ())  # a token has none
    return Shared(frozenset(axis for axis, size in enumerate(shape) if is_one(size)))


def check_axes(state: State, result: Any) -> None:
    """Raises where a state names an axis that an array does not have."""
    axes = state.same if isinstance(state, Shared) else {state.axis}
    if any(axis >= len(getattr(result.aval, "shape", ())) for axis in axes):
        raise SeesOthersError("an axis that is not there")


def meet(one: State, other: State) -> State:
    """The state of arrays of one shape that meet entry by entry."""
    if isinstance(one, Shared):
        return Shared(one.same & other.same) if isinstance(other, Shared) else meet(other, one)
    if isinstance(other, Apart):
        if one != other:
            raise SeesOthersError("two axes")
    elif one.axis not in other.same:
        raise SeesOthersError("the place in the batch")
    return one


def meet_all(states: Iterable[State]) -> State:
    """The state of one array or more of one shape that meet entry by entry."""
    return functools.reduce(meet, states)


def is_one(size: Any) -> bool:
    """Whether a size is certainly one."""
    return known(size) and int(size) == 1


def moved(state: State, to: Callable[[int], int | None], further: Sequence[int] = ()) -> State:
    """A state after axes have moved: ``to`` says where, None where one ends. Along ``further`` entries are equal."""
    if isinstance(state, Shared):
        kept = (to(axis) for axis in state.same)
        return Shared(frozenset(axis for axis in kept if axis is not None) | frozenset(further))
    axis = to(state.axis)
    if axis is None:
        raise SeesOthersError("the axis of the examples ends")
    return state._replace(axis=axis)
