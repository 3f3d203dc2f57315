"""Proves from the traced program of a loop that no example looks at another.

We follow the axis of the examples from the arguments through every operation to the results. What is not proved counts
as looking at others, so an operation without a rule costs time on several devices, and never a wrong number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnorm.engine.parts.operations import RULES
from jaxnorm.engine.parts.states import Apart, SeesOthersError, Shared, State, check_axes, meet, shared_value

DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
CALLS = ("pjit", "jit", "closed_call", "core_call", "named_call", "checkpoint", "remat", "remat2", *DERIVATIVES)
OUR_FOLDERS = (Path(jax.__file__).resolve().parent, Path(__file__).resolve().parents[2])


def separate(jaxpr: Any, arguments: Sequence[int | None], results: Sequence[int | None]) -> bool:
    """Whether each example of the results depends on its own example of the arguments alone.

    It may depend on what all share, too, but not on its place in the batch: random numbers that are drawn for the whole
    batch depend on the place.

    Args:
      jaxpr: the program.
      arguments: the axis of the examples in each argument; None: all examples share it.
      results: the axis of the examples in each result; None: the result does not matter.
    """
    states: list[State] = [
        shared_value(var.aval) if axis is None else Apart(axis)
        for var, axis in zip(jaxpr.invars, arguments, strict=True)
    ]
    try:
        found = _follow(jaxpr, [shared_value(var.aval) for var in jaxpr.constvars], states)
        wanted = [(state, Apart(axis)) for state, axis in zip(found, results, strict=True) if axis is not None]
        return all(meet(state, expected) == expected for state, expected in wanted)
    except Exception:  # SeesOthersError; or another release of JAX writes an operation otherwise: nothing is proved
        return False


def _follow(jaxpr: Any, consts: Sequence[State], arguments: Sequence[State]) -> list[State]:
    """The states of the results of a program."""
    known: dict[Any, State] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def state(atom: Any) -> State:
        return shared_value(atom.aval) if hasattr(atom, "val") else known[atom]

    for operation in jaxpr.eqns:
        states = [state(atom) for atom in operation.invars]
        for result, found in zip(operation.outvars, _results(operation, states), strict=True):
            check_axes(found, result)
            known[result] = found
    return [state(atom) for atom in jaxpr.outvars]


def _results(operation: Any, states: list[State]) -> Sequence[State]:
    """The states of the results of one operation."""
    name, params = operation.primitive.name, operation.params
    if name == "scan":
        return _scan(operation, states)
    if name == "while":
        return _while(params, states)
    if name == "cond":
        return _branches(params["branches"], states)
    if name in RULES:
        return RULES[name](operation, states)
    if name in CALLS:
        inner = params.get("call_jaxpr", params.get("jaxpr"))
        jaxpr = getattr(inner, "jaxpr", inner)
        if name in DERIVATIVES and not _is_known(jaxpr):  # that of a weight gets the sum over all examples
            raise SeesOthersError(name)
        return _follow(jaxpr, [shared_value(const) for const in getattr(inner, "consts", ())], states)
    if any(isinstance(state, Apart) for state in states):
        raise SeesOthersError(name)
    return [shared_value(var.aval) for var in operation.outvars]


def _is_known(jaxpr: Any) -> bool:
    """Whether a function with a derivative of its own is JAX's or ours: a derivative of a user may see all examples."""
    file = Path(jaxpr.debug_info.func_filename or "").resolve()
    return any(folder in file.parents for folder in OUR_FOLDERS)


def _call(closed: Any, states: Sequence[State]) -> list[State]:
    return _follow(closed.jaxpr, [shared_value(const) for const in closed.consts], states)


def _scan(operation: Any, states: list[State]) -> Sequence[State]:
    """A loop over the first axis of its sequences, which its step lacks; constants and the carry stand before them."""
    step = operation.params["jaxpr"]
    last = _alike(operation.invars, step.jaxpr.invars)
    first = last - _alike(operation.outvars, step.jaxpr.outvars)
    consts, sequences = states[:first], [_entry(state) for state in states[last:]]

    def body(carry: list[State]) -> tuple[list[State], list[State]]:
        found = _call(step, [*consts, *carry, *sequences])
        return found[: len(carry)], found[len(carry) :]

    carry = _fixed_point(lambda carry: body(carry)[0], states[first:last])
    return [*carry, *map(_sequence, body(carry)[1])]


def _alike(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many arrays have as many axes outside of a loop as in its step."""
    return sum(len(one.aval.shape) == len(other.aval.shape) for one, other in zip(outside, inside, strict=True))


def _while(params: dict[str, Any], states: list[State]) -> Sequence[State]:
    """A loop whose end may not depend on an example."""
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    consts, start = states[: of_condition + of_body], states[of_condition + of_body :]
    carry = _fixed_point(lambda carry: _call(params["body_jaxpr"], [*consts[of_condition:], *carry]), start)
    _require_shared(_call(params["cond_jaxpr"], [*consts[:of_condition], *carry]))
    return carry


def _branches(branches: Sequence[Any], states: list[State]) -> Sequence[State]:
    """A choice that may not depend on an example."""
    _require_shared(states[:1])
    first, *others = (_call(branch, states[1:]) for branch in branches)
    for other in others:
        first = [meet(*pair) for pair in zip(first, other, strict=True)]
    return first


def _fixed_point(body: Any, carry: Sequence[State]) -> list[State]:
    """The states of a carry that a step of a loop leaves as they are."""
    before, after = None, list(carry)
    while after != before:  # a state only ever loses axes, or becomes apart
        before = after
        after = [meet(*pair) for pair in zip(before, body(before), strict=True)]
    return after


def _require_shared(states: Sequence[State]) -> None:
    if any(isinstance(state, Apart) for state in states):
        raise SeesOthersError("control flow")


def _entry(state: State) -> State:
    """Of a sequence: one entry."""
    if isinstance(state, Shared):
        return Shared(frozenset(axis - 1 for axis in state.same if axis > 0))
    if state.axis == 0:
        raise SeesOthersError("scan")
    return Apart(state.axis - 1)


def _sequence(state: State) -> State:
    """Of an entry: the sequence of all."""
    if isinstance(state, Shared):
        return Shared(frozenset(axis + 1 for axis in state.same))
    return Apart(state.axis + 1)
