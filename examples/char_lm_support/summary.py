"""What the runs of a model come to: its best learning rate, the rates that work, and its curve over seeds."""

import argparse
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .run_folder import Run, RunFolder

MARGIN = 0.1
"""A learning rate works if it is no more bits than this above the model's best."""


class Range(NamedTuple):
    """The learning rates that work, around the best one."""

    low: float
    high: float
    open: bool
    """Whether it reaches an end of the rates tried, so that it may be wider."""

    @property
    def octaves(self) -> float:
        return math.log2(self.high / self.low)

    def describe(self) -> str:
        return f"{'>' if self.open else ''}{self.octaves:.1f}"


class Band(NamedTuple):
    """A curve over seeds, as far as all of them went: mean, lowest and highest."""

    steps: np.ndarray
    seconds: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Summary(NamedTuple):
    """A model whose runs have all ended."""

    model: str
    swept: dict[float, float]
    """Bits at the end of the sweep by learning rate; infinite where the loss was no number any more."""
    rate: float
    works: Range
    band: Band
    records: list[dict[str, Any]]
    """The lines of the metrics."""
    finals: list[dict[str, Any]]
    """What came of each seed."""
    sample: str
    compile_seconds: float

    @property
    def title(self) -> str:
        return f"{self.model} at {self.rate:g}"

    def mean(self, figure: str) -> float | None:
        """The mean over seeds of a figure; None if there is none."""
        values = [final.get(figure) for final in self.finals]
        return None if None in values else float(np.mean(values))


def best_rate(swept: dict[float, float]) -> float:
    """The rate with the fewest bits, the smallest of several."""
    return min(swept, key=lambda rate: (swept[rate], rate))


def working_range(swept: dict[float, float]) -> Range:
    """How far the rate may go from the best one to either side, interpolated between those tried."""
    rates = sorted(swept)
    best = rates.index(best_rate(swept))
    low, low_end = _reach(swept, rates[best::-1])
    high, high_end = _reach(swept, rates[best:])
    return Range(low, high, low_end or high_end)


def _reach(swept: dict[float, float], rates: Sequence[float]) -> tuple[float, bool]:
    """The last rate that works on the way through ``rates``, and whether that is their end."""
    limit = swept[rates[0]] + MARGIN
    for inner, outer in itertools.pairwise(rates):
        if not swept[outer] <= limit:
            climbed = swept[outer] - swept[inner]
            share = (limit - swept[inner]) / climbed if math.isfinite(climbed) else 0.0
            return inner * (outer / inner) ** share, False
    return rates[-1], True


def band(runs: Sequence[Sequence[dict[str, Any]]]) -> Band:
    """The curve of several seeds from their records."""
    shared = min(len(run) for run in runs)
    steps, seconds, bits = (
        np.array([[np.nan if record[key] is None else record[key] for record in run[:shared]] for run in runs], float)
        for key in ("step", "seconds", "valid_bpc")
    )
    return Band(steps[0], seconds.mean(0), bits.mean(0), bits.min(0), bits.max(0))


def swept_bits(results: dict[float, dict[str, Any]]) -> dict[float, float]:
    """Bits at the end of each run of a sweep."""
    bits = {rate: result["records"][-1]["valid_bpc"] for rate, result in results.items()}
    return {rate: math.inf if value is None else value for rate, value in bits.items()}


def summarize(model: str, args: argparse.Namespace, folder: RunFolder) -> Summary | None:
    """A model by what the folder has of it; None if runs are missing."""
    sweep = {rate: folder.result(model, Run(rate)) for rate in args.learning_rates}
    finals = [folder.result(model, Run(0.0, seed)) for seed in range(args.seeds)]
    results = [*sweep.values(), *finals]
    if None in results:
        return None
    swept = swept_bits(sweep)
    return Summary(
        model,
        swept,
        best_rate(swept),
        working_range(swept),
        band([result["records"] for result in finals]),
        [record for result in results for record in (*result["records"], *filter(None, [result.get("final")]))],
        [result["final"] for result in finals],
        finals[0]["sample"],
        sum(result["compile_seconds"] for result in results),
    )
