"""How long importing a library takes when jax has been imported, each time in a new process."""

import os
import statistics
import subprocess
import sys
from functools import partial

from benchmarks.compete import Outcome
from benchmarks.measure import interleaved
from benchmarks.plan import IMPORTED, Comparison
from benchmarks.programs import why_missing
from benchmarks.results import Row

_PROBE = "import time, jax, jax.numpy; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def compete(comparison: Comparison, rounds: int, seconds: float) -> Outcome:
    """Measures the imports, one after the other in each round."""
    outcome = Outcome(comparison)
    found: dict[str, list[float]] = {}
    for library in comparison.libraries:
        if not why_missing(library):
            with outcome.guard("import", library):
                import_seconds(IMPORTED[library])  # the first time compiles the files
                found[library] = []

    def note(library: str) -> None:
        found[library].append(import_seconds(IMPORTED[library]))

    interleaved({library: partial(note, library) for library in found}, rounds, seconds)
    medians = {library: statistics.median(values) for library, values in found.items()}
    peers = [median for library, median in medians.items() if library != "ours"]
    for library, values in found.items():
        ratio = medians[library] / min(peers) if peers else None
        times = (1e3 * min(values), 1e3 * medians[library], len(values))
        place = (comparison.group, comparison.shape_name, "import", library, comparison.dtype, comparison.direction)
        outcome.rows.append(Row(*place, *times, None, None, None, ratio))
    return outcome


def import_seconds(module: str) -> float:
    """The time of one import, in an interpreter that has jax already."""
    # Where no compiled files may be written, every import would compile them.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _PROBE.format(module)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
