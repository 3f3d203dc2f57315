"""Intervals of paired differences, and what they say of a claim."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from experiments.harness.claim import Agreement, Contrast

Verdict = Literal["holds", "reversed", "equal", "undecided"]
CLAIMS = 17
LEVEL = 0.05


class Interval(NamedTuple):
    """A mean, its interval, and how improbable it would be with no difference at all."""

    mean: float
    low: float
    high: float
    p: float
    confidence: float


def paired(differences: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t interval of paired differences, one a seed."""
    values = np.asarray(differences, float)
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Interval(mean, -np.inf, np.inf, 1.0, 1 - level)
    error = float(values.std(ddof=1)) / np.sqrt(count)
    if error == 0:
        return Interval(mean, mean, mean, float(mean == 0), 1 - level)
    half = float(stats.t.ppf(1 - level / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Interval(mean, mean - half, mean + half, p, 1 - level)


def holm(differences: Mapping[str, Sequence[float]], claims: int = CLAIMS) -> dict[str, Interval]:
    """Intervals of several claims, adjusted by Holm: the k-th smallest p is judged at level / (claims - k + 1).

    From the first claim on that is not significant at its level, all are judged at that level. Claims that have no
    result yet count as those with the largest p.
    """
    order = sorted(differences, key=lambda name: paired(differences[name]).p)
    intervals, stopped = {}, None
    for k, name in enumerate(order):
        level = stopped or LEVEL / (max(claims, len(order)) - k)
        intervals[name] = paired(differences[name], level)
        if stopped is None and intervals[name].p > level:
            stopped = level
    return {name: intervals[name] for name in differences}


def verdict(interval: Interval, contrast: Contrast | Agreement) -> Verdict:
    """What an interval of ``arm - baseline`` says: the rule of README, and nothing else."""
    sign = 1 if contrast.better == "higher" else -1
    low, high = sorted((sign * interval.low, sign * interval.high))  # above zero: the arm is better
    within = max(abs(low), abs(high)) <= contrast.margin
    if contrast.claimed == "better":
        return "holds" if low > 0 else "reversed" if high < 0 else "equal" if within else "undecided"
    if contrast.claimed == "equal":
        return "equal" if within else "reversed" if low > 0 or high < 0 else "undecided"
    # "not better": the arm is not better by more than the margin.
    return "holds" if high <= contrast.margin else "reversed" if low > 0 else "undecided"


def as_claimed(word: Verdict, contrast: Contrast | Agreement) -> bool:
    """Whether a verdict agrees with the paper."""
    return word == "holds" or (word == "equal" and contrast.claimed == "equal")
