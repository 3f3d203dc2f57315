"""Bytes that an instruction reads from slow memory and writes to it."""

from collections.abc import Callable, Iterable, Iterator

from benchmarks.static.compiled_text import Array, Computation, Instruction, Module

Slow = Callable[[Array], bool]
"""Whether an array lies in slow memory."""

FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "opt-barrier",
    "optimization-barrier", "domain", "partition-id", "replica-id",
}  # fmt: skip
"""Instructions that move nothing."""
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "Sharding")
_SLICES = ("dynamic-slice", "slice", "gather")
_VIEWS = ("bitcast", "reshape")
_LIKE = (*_VIEWS, "convert", "copy")
"""A fusion makes of these no more than what is read of them."""


def is_free(instruction: Instruction) -> bool:
    """Whether it only names what is there: parameters, tuples, views, the end of what was started before."""
    if instruction.op == "custom-call":
        return instruction.attribute(r'custom_call_target="([^"]*)"') in _FREE_CALLS
    return instruction.op in FREE or instruction.op.endswith(("-done", "-update"))


def traffic(module: Module, within: Computation, instruction: Instruction, slow: Slow) -> int:
    """Bytes of one execution: operands and results in slow memory, of slices only what is sliced."""
    if is_free(instruction):
        return 0
    if instruction.op.endswith("-start"):
        return _moved(within, instruction, slow)
    called = instruction.called if instruction.op == "fusion" else []
    inner = module.computations[called[0]] if called else None
    total = 0
    for place, name in enumerate(instruction.operands):
        source = within.by_name[name]
        whole = sum(array.bytes for array in source.arrays if slow(array))
        if whole and instruction.operands.index(name) == place:
            read = _read_inside(module, inner, place) if inner else _read(instruction, place)
            total += whole if read is None else min(read * source.arrays[0].item_bytes, whole)
    if instruction.op == "dynamic-update-slice":  # outside of fusions it writes into what is there
        written_bytes: Iterable[int] = (_bytes(within, instruction.operands[1]),)
    else:
        written_bytes = _written(module, within, instruction)
    for array, written in zip(instruction.arrays, written_bytes, strict=False):
        # A library's workspace is no result.
        if slow(array) and not (instruction.op == "custom-call" and array.dtype in ("s8", "u8")):
            total += min(written, array.bytes)
    return total


def _moved(within: Computation, start: Instruction, slow: Slow) -> int:
    """A copy that runs beside other work, or a sum over devices: what it moves, at each end in slow memory."""
    sources = [array for name in start.operands for array in within.by_name[name].arrays if array.shape]
    results = [array for array in start.arrays if array.shape]
    if start.op in ("copy-start", "slice-start", "dynamic-slice-start"):
        moved = min(array.bytes for array in results) if results else 0
        ends = (sources[0], next((a for a in results if a != sources[0]), sources[0])) if sources else ()
        return moved * sum(map(slow, ends))
    read = sum(array.bytes for array in sources if slow(array))
    return max(read, sum(array.bytes for array in results if slow(array)))


def _read(instruction: Instruction, place: int) -> int | None:
    """Elements that an instruction reads of an operand; None for all of them."""
    if place == 0 and instruction.op in _SLICES:
        return instruction.arrays[0].size
    if place == 0 and instruction.op == "dynamic-update-slice":
        return 0  # it stays where it is, only the slice is written
    return None


def _read_inside(module: Module, computation: Computation, number: int) -> int | None:
    """Elements that a fusion reads of its operand; None for all of them."""
    return _read_of(module, computation, computation.parameters[number].name)


def _read_of(module: Module, computation: Computation, name: str) -> int | None:
    total = 0
    for user in computation.users.get(name, []):
        for place in (place for place, operand in enumerate(user.operands) if operand == name):
            if user.op in _LIKE and not user.is_root:
                read = _read_of(module, computation, user.name)
            elif user.op == "fusion":
                read = _read_inside(module, module.computations[user.called[0]], place)
            elif user.op == "tuple":
                read = 0  # handed on as it is
            else:
                read = _read(user, place)
            if read is None:
                return None
            if user.op in _SLICES and place == 0 and not user.is_root:  # perhaps only a part of the slice is read
                again = _read_of(module, computation, user.name)
                read = read if again is None else min(read, again)
            total += read
    return total


def _written(module: Module, within: Computation, instruction: Instruction) -> Iterator[int]:
    """Bytes written into each array of the result."""
    if instruction.op == "fusion":
        inner = module.computations[instruction.called[0]]
        yield from _written(module, inner, inner.root)
    elif instruction.op == "tuple":
        for name in instruction.operands:
            yield from _written(module, within, within.by_name[name])
    elif instruction.op in _VIEWS:
        yield from _written(module, within, within.by_name[instruction.operands[0]])
    elif instruction.op == "dynamic-update-slice":
        yield _updated(within, instruction)
    elif instruction.op == "parameter":
        yield from (0 for _ in instruction.arrays)
    else:
        yield from (array.bytes for array in instruction.arrays)


def _updated(computation: Computation, update: Instruction) -> int:
    """Bytes that a fusion writes with an update of a slice: the whole array, if that is made on the spot."""
    base = computation.by_name[update.operands[0]]
    while base.op in _VIEWS:
        base = computation.by_name[base.operands[0]]
    if base.op == "dynamic-update-slice":
        below = _updated(computation, base)
    else:
        below = 0 if base.op == "parameter" else _bytes(computation, base.name)
    return below + _bytes(computation, update.operands[1])


def _bytes(computation: Computation, name: str) -> int:
    return sum(array.bytes for array in computation.by_name[name].arrays)
