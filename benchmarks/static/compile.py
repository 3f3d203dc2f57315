"""Compiles one case in a process of its own: ``python -m benchmarks.static.compile CASE [SCHEDULES]``.

The last line that it prints are the figures, as JSON. A compiler that ends its process ends no other case.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.static.bundles import count_bundles, read_schedules
from benchmarks.static.cases import Case
from benchmarks.static.compiled_text import Module, parse
from benchmarks.static.counts import count
from benchmarks.static.targets import TARGETS, set_environment

MIB = 2**20


def main(argv: Sequence[str]) -> None:
    """Prints the figures of a case; with a folder as the second word, those of the schedule instead."""
    case = Case(*json.loads(argv[0]))
    schedules = Path(argv[1]) if len(argv) > 1 else None
    set_environment(TARGETS[case.target].platform, schedules)
    compiled, seconds = _compile(case)
    module = parse(compiled.as_text())
    figures = count(module, case.sizes.steps, TARGETS[case.target].platform)
    if schedules is None:
        figures |= {"temporary_bytes": int(compiled.memory_analysis().temp_size_in_bytes), "compile_cpu_s": seconds}
    else:
        figures = _schedule(module, case, schedules, figures["multiplications"])
    print(json.dumps(figures))


def _compile(case: Case) -> tuple[Any, float]:
    """The compiled program, and the processor time that it took, of all threads and of the compiler's helpers."""
    import jax

    from benchmarks.static.programs import program

    function, arguments, out_shardings = program(case)
    start = os.times()
    compiled = jax.jit(function, out_shardings=out_shardings).lower(*arguments).compile()
    return compiled, round(sum(os.times()[:4]) - sum(start[:4]), 1)


def _schedule(module: Module, case: Case, folder: Path, multiplications: float) -> dict[str, Any]:
    figures = count_bundles(module, read_schedules(folder), case.sizes.steps)
    per_bundle = TARGETS[case.target].multiplications
    assert per_bundle is not None
    return {**figures, "floor_bundles": multiplications / per_bundle}


if __name__ == "__main__":
    main(sys.argv[1:])
