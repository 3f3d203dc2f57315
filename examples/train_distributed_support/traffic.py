"""Counts over the text of a compiled program: which collectives run how often, and what they send."""

import re
from collections import defaultdict

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
WITH_OPERANDS = ("all-gather-start", "collective-permute-start")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
         "u64": 8, "f64": 8}  # fmt: skip
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$", re.MULTILINE)
OPERATION = re.compile(r"= (\(.*?\)|\S+) ([\w\-]+)\(")
CALLED = re.compile(r"(?:body|to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'known_trip_count":\s*\{"n":\s*"(\d+)"')
SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")


def collectives(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """By kind and place ("in a loop", "outside of loops"): how often in one call, and the bytes of the results."""
    bodies, entry = _computations(text)
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])

    def walk(name: str, times: int, place: str) -> None:
        for line in bodies.get(name, ()):
            operation = OPERATION.search(line)
            if operation is None:
                continue
            shape, kind = operation[1], operation[2].removesuffix("-start")
            if kind in KINDS:
                entry = found[kind, place]
                entry[0] += times
                entry[1] += times * _bytes(shape, with_operands=operation[2] in WITH_OPERANDS)
            elif kind == "while":
                trips = TRIPS.search(line)
                for called in CALLED.findall(line):
                    walk(called, times * int(trips[1] if trips else 1), "in a loop")
            else:
                branches = [name for part in BRANCHES.findall(line) for name in part.replace("%", "").split(", ")]
                for called in (*CALLED.findall(line), *branches):
                    walk(called, times, place)

    walk(entry, 1, "outside of loops")
    return {key: (times, sent) for key, (times, sent) in found.items()}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the one that is called."""
    heads = list(COMPUTATION.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    bodies = {head[2]: text[head.end() : end].splitlines() for head, end in zip(heads, ends, strict=True)}
    return bodies, next(head[2] for head in heads if head[1])


def _bytes(shape: str, *, with_operands: bool) -> int:
    """The size of a result. Where the operands come before it, the result is the largest."""
    sizes = []
    for kind, axes in SHAPE.findall(shape):
        size = BYTES.get(kind, 1)
        for axis in filter(None, axes.split(",")):
            size *= int(axis)
        sizes.append(size)
    return max(sizes, default=0) if with_operands and shape.startswith("(") else sum(sizes)
