"""Pictures of what was measured, from the committed results, drawn by the programs that measured."""

import functools
import sys
from pathlib import Path

from matplotlib.figure import Figure

from pictures.style import Theme

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))  # benchmarks and experiments are not installed

from benchmarks import plots, results  # noqa: E402
from experiments.claims import NAMES, claim_named, invariances  # noqa: E402
from experiments.harness import forest  # noqa: E402
from experiments.harness.records import Records  # noqa: E402
from experiments.harness.summary import judge, summarize  # noqa: E402

SPEED = ROOT / "benchmarks" / "results" / "2026-11-30-cpu-2cores"
"""The run that docs/benchmarks.md shows."""
RECORDS = ROOT / "experiments" / "results"


@functools.cache
def _rows() -> list[results.Row]:
    return results.read(SPEED)


def speed(theme: Theme) -> Figure:
    """The time of every library relative to ours."""
    return _drawn(plots.cells(_rows()))


def growth(theme: Theme) -> Figure:
    """Time and memory as sequences, batches and cells grow."""
    return _drawn(plots.growth(_rows()))


def _drawn(figure: Figure | None) -> Figure:
    if figure is None:
        raise ValueError(f"{SPEED}: the results lack what the picture shows")
    return figure


def invariance_table(theme: Theme) -> Figure:
    """What each normalizer is invariant to."""
    drawn: Figure = invariances.table(Records(RECORDS, invariances.CLAIM.name).runs(invariances.ARMS))["table.png"]
    return drawn


@functools.cache
def verdict_rows() -> list[forest.Row]:
    """A row for each claim."""
    claims = [claim_named(name) for name in NAMES]
    summaries = [summary for claim in claims if (summary := summarize(claim, RECORDS)) is not None]
    return forest.rows(claims, judge(summaries))


def verdicts(theme: Theme) -> Figure:
    """The intervals of all claims."""
    return forest.figure(verdict_rows())


def verdicts_in_words() -> str:
    """The claims by verdict."""
    words = dict.fromkeys(row.verdict for row in verdict_rows())
    return "; ".join(
        f"{word}: {', '.join(row.name for row in verdict_rows() if row.verdict == word)}" for word in words
    )
