"""What is counted over the text of a compiled program."""

from collections import Counter
from typing import Any

from benchmarks.static.compiled_text import Array, Instruction, Module
from benchmarks.static.loops import PARTS, executions
from benchmarks.static.products import multiplications
from benchmarks.static.traffic import is_free, traffic

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
_TRANSFERS = ("copy-start", "slice-start", "dynamic-slice-start")


def count(module: Module, steps: int, platform: str) -> dict[str, Any]:
    """The figures of one program.

    Args:
      module: the program.
      steps: time steps of its sequence.
      platform: "tpu", where some arrays lie in a fast memory and scalars in one of their own, or "cuda".

    Returns:
      ``slow_bytes`` of a run in all and by part; ``kernels`` and ``collectives`` a step in the loops of both passes and
      in all outside of loops; ``multiplications`` a step in loops.
    """

    def slow(array: Array) -> bool:
        return platform != "tpu" or (array.space == 0 and bool(array.shape))

    moved: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    collectives: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    products = 0
    for run in executions(module):
        moved[run.part] += run.times * traffic(module, run.within, run.instruction, slow)
        kernels[run.part] += run.times * is_kernel(run.instruction, platform)
        for name in collectives_of(module, run.instruction):
            collectives[run.part][name] += run.times
        if run.part != "outside":
            products += run.times * multiplications(module, run.within, run.instruction)
    return {
        "slow_bytes": {"all": sum(moved.values()), **{part: moved[part] for part in PARTS}},
        "kernels": {part: a_step(part, kernels[part], steps) for part in PARTS},
        "collectives": {
            part: {name: a_step(part, times, steps) for name, times in sorted(collectives[part].items())}
            for part in PARTS
        },
        "multiplications": products / steps,
    }


def a_step(part: str, times: int, steps: int) -> float:
    """How often a step does what its part does so many times; outside of loops it is counted once a run."""
    return times if part == "outside" else round(times / steps, 3)


def is_kernel(instruction: Instruction, platform: str) -> bool:
    """Whether the device starts a kernel for it; the scalar core of a TPU counts rounds, its DMA engine copies."""
    if is_free(instruction):
        return False
    if platform != "tpu":
        return True
    return instruction.op not in _TRANSFERS and any(array.shape for array in instruction.arrays)


def collectives_of(module: Module, instruction: Instruction) -> list[str]:
    """The kinds of collectives that an instruction starts, also inside of a fusion."""
    inside = [i for name in instruction.called for i in module.inside(name)] if instruction.op == "fusion" else []
    operations = [each.op.removesuffix("-start") for each in (instruction, *inside)]
    return [operation for operation in operations if operation in COLLECTIVES]
