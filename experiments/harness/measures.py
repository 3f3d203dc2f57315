"""Figures of a run, as contrasts name them. A run that diverged counts as chance from there on."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from experiments.harness.records import Run

Measure = Callable[[Sequence[Run]], float]


def area(key: str, chance: float) -> Measure:
    """The mean of a validation curve over the steps (trapezoids): lower, or higher, is sooner."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        steps, values = np.asarray(run.curve["step"], float), _filled(run, key, chance)
        if run.diverged is not None:
            steps, values = np.append(steps, [run.diverged, run.steps]), np.append(values, [chance, chance])
        return float(np.trapezoid(values, steps) / steps[-1])

    return measure


def last(key: str, chance: float) -> Measure:
    """The figure after the last step."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        return chance if run.diverged is not None else float(_filled(run, key, chance)[-1])

    return measure


def best(key: str, chance: float, better: str = "lower") -> Measure:
    """The best figure of the curve."""

    def measure(runs: Sequence[Run]) -> float:
        values = _filled(_only(runs), key, chance)
        return float(values.min() if better == "lower" else values.max())

    return measure


def tested(key: str, chance: float) -> Measure:
    """A figure of the test data; of a run without, as in a sweep, the same figure of the validation data."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        if run.diverged is not None:
            return chance
        value = run.test.get(f"test_{key}", None) if run.test else run.curve[f"valid_{key}"][-1]
        return chance if value is None or not math.isfinite(value) else float(value)

    return measure


def given(key: str, missing: float) -> Measure:
    """A figure that the last test gave, by its whole name; ``missing`` where a run ended without."""

    def measure(runs: Sequence[Run]) -> float:
        return float(_only(runs).test.get(key, missing))

    return measure


def early(key: str, share: float) -> Measure:
    """The figure of a curve at the first evaluation after this share of the run."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        late = np.asarray(run.curve["step"], float) >= share * run.steps
        found = _filled(run, key, math.nan)[late]
        return float(found[0]) if found.size else math.nan

    return measure


def at_seconds(key: str, seconds: float, chance: float) -> Measure:
    """The figure of a curve after so many seconds of training, straight lines between evaluations."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        at = np.asarray(run.curve["seconds"], float)
        if run.diverged is not None and seconds > at[-1]:
            return chance
        return float(np.interp(seconds, at, _filled(run, key, chance)))

    return measure


def log2_steps_to(key: str, target: float, better: str = "lower") -> Measure:
    """log2 of the steps to a target, straight lines between evaluations; that of twice the run if it is not reached."""

    def measure(runs: Sequence[Run]) -> float:
        run = _only(runs)
        sign = 1.0 if better == "lower" else -1.0
        steps, values = np.asarray(run.curve["step"], float), sign * _filled(run, key, sign * math.inf)
        reached = np.flatnonzero(values <= sign * target)
        if not reached.size:
            return math.log2(2 * run.steps)
        k = reached[0]
        if k == 0:
            return math.log2(max(steps[0], 1.0))
        share = (values[k - 1] - sign * target) / (values[k - 1] - values[k]) if np.isfinite(values[k - 1]) else 1.0
        return math.log2(max(steps[k - 1] + share * (steps[k] - steps[k - 1]), 1.0))

    return measure


def log2_steps_to_best(
    key: str, chance: float, better: str = "lower"
) -> Callable[[Sequence[Run], Sequence[Run]], float]:
    """log2 of the steps until the curve reaches the best figure that the baseline reached with the same seed."""

    def measure(runs: Sequence[Run], baseline: Sequence[Run]) -> float:
        return log2_steps_to(key, best(key, chance, better)(baseline), better)(runs)

    return measure


def width(key: str, within: float, chance: float) -> Measure:
    """How many octaves of learning rates end within a distance of the best, straight lines between rates."""

    def measure(runs: Sequence[Run]) -> float:
        ordered = sorted(runs, key=lambda run: run.rate)
        rates = np.log2([run.rate for run in ordered])
        ends = np.asarray([last(key, chance)([run]) for run in ordered])
        fine = np.linspace(rates[0], rates[-1], 2001)
        share = np.mean(np.interp(fine, rates, ends) <= ends.min() + within)
        return float(share * (rates[-1] - rates[0]))

    return measure


def _only(runs: Sequence[Run]) -> Run:
    (run,) = runs
    return run


def _filled(run: Run, key: str, chance: float) -> np.ndarray:
    values = np.asarray([math.nan if value is None else value for value in run.curve[key]], float)
    return np.where(np.isfinite(values), values, chance)
