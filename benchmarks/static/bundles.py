"""Instruction bundles of libtpu's final schedule: what a TPU's core issues, one bundle a cycle where nothing waits."""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.static.compiled_text import Instruction, Module
from benchmarks.static.counts import is_kernel
from benchmarks.static.loops import executions

_FILE = re.compile(r"^\d+-(.+)-\d+-final_bundles\.txt$")
_BUNDLE = re.compile(r"^\s*(?:0x)?[0-9a-f]+ +(?:[A-Z]{2})? *: *(>*)", re.MULTILINE)


class Schedule(NamedTuple):
    """Bundles of one kernel: outside of its loop over tiles, and inside."""

    once: int
    looped: int

    def issued(self, rounds: int) -> int:
        """Bundles of one execution."""
        return self.once + self.looped * rounds


def read_schedules(folder: Path) -> dict[str, Schedule]:
    """The schedules that libtpu wrote, by the name of the instruction."""
    found = {}
    for path in sorted(folder.iterdir()):
        name = _FILE.match(path.name)
        if name and not name[1].endswith("schedule-analysis"):
            found[name[1]] = schedule_of(path.read_text(encoding="utf-8", errors="replace"))
    return found


def schedule_of(text: str) -> Schedule:
    """Counts the bundles of one kernel; what is in a loop stands behind ">"."""
    loops = _BUNDLE.findall(text)
    return Schedule(sum(not loop for loop in loops), sum(bool(loop) for loop in loops))


def count_bundles(module: Module, schedules: dict[str, Schedule], steps: int) -> dict[str, Any]:
    """Bundles a step in loops, and the kernels a step whose schedule was not found.

    libtpu writes the schedule of equal kernels once: another one with the same text stands for them.
    """
    known: dict[str, Schedule] = {}
    for computation in module.computations.values():
        for instruction in computation:
            if instruction.name in schedules:
                known.setdefault(_text(module, instruction), schedules[instruction.name])
    bundles = missing = 0
    for run in executions(module):
        if run.part == "outside" or not is_kernel(run.instruction, "tpu"):
            continue
        schedule = schedules.get(run.instruction.name) or known.get(_text(module, run.instruction))
        if schedule is None:
            missing += run.times
        else:
            bundles += run.times * schedule.issued(tiles(run.instruction))
    return {"bundles": bundles / steps, "kernels_without_schedule": missing / steps}


def tiles(instruction: Instruction) -> int:
    """Rounds of a kernel's loop over tiles."""
    bounds = instruction.attribute(r'"iteration_bounds":\[([^\]]*)\]') or ""
    return math.prod(int(bound) for bound in re.findall(r"\d+", bounds))


def _text(module: Module, instruction: Instruction) -> str:
    """What an instruction computes, without the names that the compiler gave and without what it noted."""
    lines = [instruction, *(inner for name in instruction.called for inner in module.inside(name))]
    names = {line.name: str(place) for place, line in enumerate(lines)}
    words = []
    for line in lines:
        reads = [] if line is instruction else [names.get(name, "?") for name in line.operands]
        kept = re.split(r", (?:metadata|backend_config|calls|to_apply)=", line.attributes)[0]
        value = line.content if line.op in ("parameter", "constant") else ""
        words.append(f"{line.type} {line.op} {reads} {value} {kept}")
    return "\n".join([*words, str(tiles(instruction))])
