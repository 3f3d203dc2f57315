"""What the records of a claim come to: a figure an arm and seed, the difference, the verdict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness import statistics
from experiments.harness.claim import Claim
from experiments.harness.records import Records, Run


class ArmSummary(NamedTuple):
    """One arm: its rate, and its figures over seeds."""

    arm: str
    rates: tuple[float, ...]
    at_edge: bool
    """Whether the best rate lies at an edge of those tried."""
    figures: dict[int, float]
    """The figure of the contrast by seed."""
    also: dict[str, float]
    """Further figures, means over seeds."""
    diverged: int
    seconds: float
    """Mean seconds of training of a final run."""


class Summary(NamedTuple):
    """One claim: its arms, and the contrast as far as there are records."""

    claim: Claim
    arms: list[ArmSummary]
    differences: list[float]
    source: str
    scale: str
    hours: float

    @property
    def complete(self) -> bool:
        """Whether the arms of the contrast have all their seeds."""
        return len(self.differences) >= max(self.claim.seeds_of(arm).stop for arm in self.claim.contrast.arms)


def summarize(claim: Claim, folder: Path) -> Summary | None:
    """The summary of the records in a folder; None where there are none."""
    runs = Records(folder, claim.name).runs(claim.arms)
    if not runs:
        return None
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in claim.arms}
    figures = claim.contrast.figures({arm: _by_seed(claim, arm, own) for arm, own in by_arm.items()})
    arms = [_arm(claim, arm, own, figures[arm]) for arm, own in by_arm.items()]
    seconds = sum(run.curve["seconds"][-1] or 0.0 for run in runs if run.curve.get("seconds"))
    return Summary(
        claim,
        arms,
        claim.contrast.differences(_planned(claim, figures)),
        runs[0].data,
        runs[0].scale,
        seconds / 3600,
    )


def _by_seed(claim: Claim, arm: str, runs: Sequence[Run]) -> dict[int, list[Run]]:
    """The final runs of an arm by seed; where every rate is kept, a seed counts once all its rates are there."""
    final = [run for run in runs if run.phase == "final"]
    per_seed = {seed: [run for run in final if run.seed == seed] for seed in sorted({run.seed for run in final})}
    if claim.every_rate:
        per_seed = {seed: own for seed, own in per_seed.items() if {r.rate for r in own} >= set(claim.rates_of(arm))}
    return per_seed


def _planned(claim: Claim, figures: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """Without seeds beyond the number that the claim set beforehand: whoever runs more gets no other verdict."""
    return {
        arm: {seed: figure for seed, figure in seeds.items() if seed in claim.seeds_of(arm)}
        for arm, seeds in figures.items()
    }


def _arm(claim: Claim, arm: str, runs: Sequence[Run], figures: dict[int, float]) -> ArmSummary:
    final = [run for run in runs if run.phase == "final"]
    tried = sorted({run.rate for run in runs})
    rates = tuple(sorted({run.rate for run in final})) if claim.calculate is None else ()
    return ArmSummary(
        arm,
        rates,
        not claim.every_rate and len(tried) > 1 and bool(rates) and rates[0] in (tried[0], tried[-1]),
        figures,
        {name: float(np.mean([measure([run]) for run in final])) for name, measure in claim.also.items() if final},
        sum(run.diverged is not None for run in final),
        float(np.mean([run.curve["seconds"][-1] or 0.0 for run in final])) if final else 0.0,
    )


def judge(summaries: Sequence[Summary]) -> dict[str, tuple[statistics.Interval, statistics.Verdict]]:
    """Interval and verdict of each claim that is complete, adjusted over all."""
    intervals = statistics.holm({s.claim.name: s.differences for s in summaries if s.complete})
    contrasts = {s.claim.name: s.claim.contrast for s in summaries}
    return {name: (found, statistics.verdict(found, contrasts[name])) for name, found in intervals.items()}


def as_json(summary: Summary, judged: tuple[statistics.Interval, statistics.Verdict] | None) -> dict[str, Any]:
    """What ``summary.json`` holds."""
    contrast = summary.claim.contrast
    return {
        "claim": summary.claim.name,
        "scale": summary.scale,
        "data": summary.source,
        "hours_of_one_core": round(summary.hours, 3),
        "arms": {
            arm.arm: {
                "rates": arm.rates,
                "best_rate_at_edge": arm.at_edge,
                contrast.unit: {str(seed): _short(value) for seed, value in arm.figures.items()},
                "also": {name: _short(value) for name, value in arm.also.items()},
                "diverged": arm.diverged,
                "seconds": _short(arm.seconds),
            }
            for arm in summary.arms
        },
        "contrast": {
            "figure": contrast.unit,
            "difference": contrast.title,
            "margin": contrast.margin,
            "by_seed": [_short(value) for value in summary.differences],
            **(
                {}
                if judged is None
                else {
                    "mean": _short(judged[0].mean),
                    "interval": [_short(judged[0].low), _short(judged[0].high)],
                    "confidence": _short(judged[0].confidence),
                    "p": _short(judged[0].p),
                    "verdict": judged[1],
                }
            ),
        },
    }


def _short(value: float) -> float | None:
    """Five digits; None where there is no finite number."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
