"""Which instructions run, how often, and in which part of a program."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.static.compiled_text import Computation, Instruction, Module

PARTS = ("forward", "backward", "outside")
"""Loops of the forward pass, loops of the backward pass, and what is in no loop."""

_LOOK_THROUGH = ("copy", "bitcast", "convert", "copy-start", "copy-done", "reshape")


class Execution(NamedTuple):
    """An instruction, and how often a run executes it."""

    instruction: Instruction
    within: Computation
    times: int
    part: str


def executions(module: Module) -> Iterator[Execution]:
    """All instructions that a run executes; loops, calls and branches are entered, fusions are one instruction.

    Of a conditional the branch with the most instructions counts.

    Raises:
      ValueError: the number of rounds of a loop is not known.
    """
    yield from _walk(module, module.entry, 1, "outside")


def _walk(module: Module, computation: Computation, times: int, part: str) -> Iterator[Execution]:
    for instruction in computation:
        inner = [module.computations[name] for name in instruction.called if name in module.computations]
        if instruction.op == "while":
            body = module.computations[instruction.attribute(r"body=%?([\w.\-]+)") or ""]
            rounds = times * trip_count(module, computation, instruction)
            yield from _walk(module, body, rounds, _part(instruction) if part == "outside" else part)
        elif instruction.op == "conditional":
            yield from _walk(module, max(inner, key=lambda branch: len(branch.instructions)), times, part)
        elif instruction.op in ("call", "async-start"):
            yield from _walk(module, inner[0], times, part)
        else:
            yield Execution(instruction, computation, times, part)


def _part(loop: Instruction) -> str:
    """JAX names what comes of differentiation: a loop of the backward pass is a transposed one."""
    return "backward" if "transpose(" in (loop.attribute(r'op_name="([^"]*)"') or "") else "forward"


def trip_count(module: Module, within: Computation, loop: Instruction) -> int:
    """The number of rounds: what the compiler noted, or the bound that its condition compares a counter with."""
    noted = loop.attribute(r'"?known_trip_count"?:\{"?n"?:"?(\d+)')
    if noted:
        return int(noted)
    condition = module.computations[loop.attribute(r"condition=%?([\w.\-]+)") or ""]
    compare = condition.root
    if compare.op != "compare" or compare.attribute(r"direction=(\w+)") != "LT":
        raise ValueError(f"the number of rounds of {loop.name} is not known: its condition is {compare.op}")
    counter, bound = (condition.by_name[name] for name in compare.operands)
    start, end = (_value(within, loop, side) for side in (counter, bound))
    if end is None:
        raise ValueError(f"the number of rounds of {loop.name} is not known: its bound is no constant")
    return end - (start or 0)


def _value(within: Computation, loop: Instruction, side: Instruction) -> int | None:
    """A constant of the condition, or the constant that the loop starts with in its place."""
    if side.op == "constant":
        return int(side.content)
    index = side.attribute(r"index=(\d+)")
    found = within.by_name.get(loop.operands[0])
    if side.op != "get-tuple-element" or index is None or found is None or found.op != "tuple":
        return None
    start = within.by_name[found.operands[int(index)]]
    while start.op in _LOOK_THROUGH:
        start = within.by_name[start.operands[0]]
    return int(start.content) if start.op == "constant" and re.fullmatch(r"-?\d+", start.content) else None
