"""Reads the text of a compiled program: computations, instructions, their types and operands."""

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

ITEM_BYTES = {
    "pred": 1, "s4": 1, "u4": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8, "u64": 8,
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([\d,<=]*)\](\{[^}]*\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")


class Array(NamedTuple):
    """One array of a type."""

    dtype: str
    shape: tuple[int, ...]
    layout: str

    @property
    def size(self) -> int:
        """The number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def item_bytes(self) -> int:
        """Bytes of one element; none of what is no array, as a token."""
        return 1 if self.dtype.startswith("f8") else ITEM_BYTES.get(self.dtype, 0)

    @property
    def bytes(self) -> int:
        """What it takes, without padding."""
        return self.size * self.item_bytes

    @property
    def space(self) -> int:
        """The number of the memory that it lies in; 0 is the device's main memory."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found[1]) if found else 0


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    is_root: bool
    type: str
    op: str
    operands: tuple[str, ...]
    content: str
    """What stands between the parentheses: operands, the number of a parameter, the value of a constant."""
    attributes: str

    @property
    def arrays(self) -> list[Array]:
        """The arrays of its result."""
        return arrays_of(self.type)

    @property
    def called(self) -> list[str]:
        """The computations that it names, in order."""
        branches = _BRANCHES.search(self.attributes)
        listed = re.findall(r"[\w.\-]+", branches[1].replace("%", " ")) if branches else []
        return [*_CALLED.findall(self.attributes), *listed]

    def attribute(self, pattern: str) -> str | None:
        """The first group of a pattern among its attributes."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else None


class Computation:
    """Instructions in the order in which they run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.instructions: list[Instruction] = []

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions)

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        """Instructions by their names."""
        return {instruction.name: instruction for instruction in self.instructions}

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read the result of each."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions:
            for name in dict.fromkeys(instruction.operands):
                found.setdefault(name, []).append(instruction)
        return found

    @property
    def root(self) -> Instruction:
        """The instruction whose result is the result of the computation."""
        return next((i for i in self.instructions if i.is_root), self.instructions[-1])

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Parameters by their numbers."""
        return {int(i.content): i for i in self.instructions if i.op == "parameter"}


class Module(NamedTuple):
    """A compiled program."""

    computations: dict[str, Computation]
    entry: Computation

    def inside(self, name: str) -> Iterator[Instruction]:
        """All instructions of a computation and of those that it calls."""
        for instruction in self.computations.get(name, ()):
            yield instruction
            for called in instruction.called:
                yield from self.inside(called)


def parse(text: str) -> Module:
    """Parses the text of a compiled program.

    Raises:
      ValueError: it has no entry computation.
    """
    computations: dict[str, Computation] = {}
    current = entry = None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        head = _HEAD.match(line)
        if head:
            current = computations.setdefault(head[2], Computation(head[2]))
            entry = current if head[1] else entry
        elif current and (start := _START.match(line)):
            current.instructions.append(_instruction(line, start))
    if entry is None:
        raise ValueError("this is no text of a compiled program: it has no entry computation")
    for computation in computations.values():
        computation.instructions = [_joined(computations, each) for each in computation]
    return Module(computations, entry)


def _joined(computations: dict[str, Computation], instruction: Instruction) -> Instruction:
    """A fusion that runs beside others is a fusion, though its start has a type that names what it reads, too."""
    if instruction.op != "fusion-start":
        return instruction
    return instruction._replace(op="fusion", type=computations[instruction.called[0]].root.type)


def arrays_of(text: str) -> list[Array]:
    """The arrays of a type, those of a tuple one after the other."""
    return [
        Array(dtype, tuple(int(length.strip("<=")) for length in shape.split(",") if length), layout)
        for dtype, shape, layout in _ARRAY.findall(text)
    ]


def _instruction(line: str, start: re.Match[str]) -> Instruction:
    begin = start.end()
    end = _closing(line, begin) if line[begin] == "(" else line.index(" ", begin)
    opening = line.index("(", end)
    closing = _closing(line, opening)
    content = line[opening + 1 : closing - 1]
    return Instruction(
        name=start[2],
        is_root=bool(start[1]),
        type=line[begin:end],
        op=line[end:opening].strip(),
        operands=tuple(re.findall(r"%([\w.\-]+)", content)),
        content=content,
        attributes=line[closing:],
    )


def _closing(line: str, begin: int) -> int:
    """The place behind the parenthesis that closes the one at ``begin``."""
    depth = 0
    for place in range(begin, len(line)):
        depth += (line[place] == "(") - (line[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"a parenthesis is not closed: {line[:120]}")
