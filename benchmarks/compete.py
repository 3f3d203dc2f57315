"""One comparison: builds and compiles its programs, times them side by side, and makes rows of it."""

import contextlib
import dataclasses
import statistics
import sys
import warnings
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from benchmarks.measure import interleaved, peak_bytes
from benchmarks.plan import Comparison
from benchmarks.programs import build, is_ours, offers, why_missing
from benchmarks.programs.base import Prepared, Program, Unsupported
from benchmarks.results import Row


class _Entry(NamedTuple):
    model: str
    library: str
    prepared: Prepared
    peak_bytes: int | None


@dataclasses.dataclass
class Outcome:
    """What comes out of a comparison."""

    comparison: Comparison
    rows: list[Row] = dataclasses.field(default_factory=list)
    unsupported: list[str] = dataclasses.field(default_factory=list)
    """What a library cannot do, with its reason."""
    failed: list[str] = dataclasses.field(default_factory=list)
    """What broke, with the error."""

    @contextlib.contextmanager
    def guard(self, model: str, library: str) -> Iterator[None]:
        """Notes what goes wrong with a program; the others go on."""
        at = self.comparison
        where = f"{library} {model}, {at.shape_name}, {at.dtype}, {at.direction}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other libraries' affairs
            try:
                yield
            except Unsupported as reason:
                self.unsupported.append(f"{where}: {reason}")
            except Exception as error:  # whatever another library's next release may bring
                self.failed.append(f"{where}: {type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}")
                print(f"left out: {self.failed[-1]}", file=sys.stderr)


def compete(comparison: Comparison, rounds: int, seconds: float) -> Outcome:
    """Measures one comparison."""
    outcome = Outcome(comparison)
    programs: dict[tuple[str, str], Program] = {}
    entries: dict[str, _Entry] = {}
    # First all are built, then all compiled: each compilation clears the caches that building is quick with.
    for model, library in product(comparison.models, comparison.libraries):
        if not why_missing(library) and offers(library, model):
            with outcome.guard(model, library):
                programs[model, library] = build(library, model, comparison.shape, comparison.dtype)
    for (model, library), program in programs.items():
        with outcome.guard(model, library):
            prepared = program.prepare(comparison.direction)
            entries[f"{library} {model}"] = _Entry(model, library, prepared, peak_bytes(prepared.run))
    times = interleaved({name: entry.prepared.run for name, entry in entries.items()}, rounds, seconds)
    outcome.rows += _rows(comparison, entries, times)
    return outcome


def _rows(comparison: Comparison, entries: dict[str, _Entry], times: dict[str, list[float]]) -> list[Row]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = {
        model: min(
            (medians[name] for name, e in entries.items() if e.model == model and not is_ours(e.library)), default=None
        )
        for model in comparison.models
    }
    return [
        Row(
            group=comparison.group,
            shape=comparison.shape_name,
            model=entry.model,
            library=entry.library,
            dtype=comparison.dtype,
            direction=comparison.direction,
            min_ms=1e3 * min(times[name]),
            median_ms=1e3 * medians[name],
            rounds=len(times[name]),
            xla_temp_bytes=entry.prepared.xla_temp_bytes,
            peak_bytes=entry.peak_bytes,
            compile_s=entry.prepared.compile_s,
            ratio_to_best_peer=None if (peer := best[entry.model]) is None else medians[name] / peer,
        )
        for name, entry in entries.items()
    ]
