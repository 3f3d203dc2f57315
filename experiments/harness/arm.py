"""One arm from its first rate to its last seed: the sweep, its extensions, the final runs."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.checkpoints import Checkpoints
from experiments.harness.claim import Claim, scalar
from experiments.harness.records import Records, Run


class Progress:
    """Where an arm stands; handed to whoever shows it."""

    def __init__(self, tell: Callable[[int, int, str], None], claim: Claim, arm: str, steps: int, seeds: int) -> None:
        rates = len(claim.rates_of(arm))
        half = 0 if claim.every_rate else rates * (steps // 2)
        self._tell, self._done = tell, 0
        self.total = half + seeds * steps * (rates if claim.every_rate else 1)

    def more(self, steps: int) -> None:
        """Makes room for a run that was not planned."""
        self.total += steps

    def step(self, number: int, what: str) -> None:
        """Hears of a step of the run under way."""
        self._tell(self._done + number, self.total, what)

    def close(self, steps: int) -> None:
        """A run has ended."""
        self._done += steps


def best_rate(claim: Claim, runs: Iterable[Run]) -> float:
    """The rate with the best figure of the contrast in the sweep. The figure's direction is the contrast's."""
    sign = 1.0 if claim.contrast.better == "lower" else -1.0

    def rank(run: Run) -> tuple[float, float]:
        value = sign * claim.contrast.measure([run])
        return (value if math.isfinite(value) else math.inf, run.rate)

    return min(runs, key=rank).rate


def next_rate(claim: Claim, runs: list[Run]) -> float | None:
    """The rate that an extension of the sweep adds: beyond the edge where the best lies; None once that is inside."""
    rates = sorted({run.rate for run in runs})
    best = best_rate(claim, runs)
    if len(rates) < 2:
        return None
    if best == rates[0]:
        return float(f"{rates[0] ** 2 / rates[1]:.3g}")
    if best == rates[-1]:
        return float(f"{rates[-1] ** 2 / rates[-2]:.3g}")
    return None


def run_arm(
    claim: Claim,
    arm: str,
    *,
    scale: str,
    data: Path | None,
    out: Path,
    seeds: int | None,
    made_by: dict[str, Any],
    tell: Callable[[int, int, str], None],
) -> None:
    """Makes all runs of an arm that have no record yet, and records each."""
    from experiments.harness.training import Trainer  # after the worker has set what jax reads when it starts

    sizes = claim.scales[scale]
    records = Records(out, claim.name)
    records.repair(arm)
    done = {(run.phase, run.rate, run.seed): run for run in records.runs([arm])}
    loaded = claim.load(data, sizes)
    if claim.calculate is not None:
        for number, seed in enumerate(claim.seeds_of(arm, seeds)):
            if ("final", 0.0, seed) not in done:
                begun = time.perf_counter()
                figures = scalar(claim.calculate(claim.arms[arm], sizes, loaded, seed))
                seconds = time.perf_counter() - begun
                records.add(_calculated(claim, arm, scale, seed, figures, seconds, loaded, made_by))
            tell(number + 1, len(claim.seeds_of(arm, seeds)), f"seed {seed}")
        return
    trial = claim.build(claim.arms[arm], sizes, loaded)
    trainer, steps_of_run = Trainer(trial, sizes), trial.steps or sizes.steps
    checkpoints = Checkpoints(records.folder / "checkpoints" / arm)
    chosen = claim.seeds_of(arm, seeds)
    progress = Progress(tell, claim, arm, steps_of_run, len(chosen))

    def one(phase: str, rate: float, seed: int, steps: int) -> Run:
        if (phase, rate, seed) not in done:
            outcome = trainer.run(
                rate=rate,
                seed=seed,
                steps=steps,
                final=phase == "final",
                checkpoints=checkpoints,
                told=lambda number: progress.step(number, f"rate {rate:g}, seed {seed}"),
            )
            run = Run(
                claim=claim.name,
                arm=arm,
                scale=scale,
                phase=phase,
                rate=rate,
                seed=seed,
                steps=steps,
                curve={name: [_rounded(value) for value in values] for name, values in outcome.curve.items()},
                diverged=outcome.diverged,
                test={name: float(f"{value:.6g}") for name, value in outcome.test.items()},
                parameters=outcome.parameters,
                data=getattr(loaded, "source", "made by rule"),
                sizes=vars(sizes),
                made_by=made_by,
            )
            artifacts = trial.artifacts
            if artifacts is not None and phase == "final" and seed == 0 and outcome.diverged is None:
                kept = artifacts(outcome.state.params, outcome.state.memory)
                _keep(records.folder / "artifacts" / f"{arm}.npz", kept)
            records.add(run)
            checkpoints.clear()
            done[phase, rate, seed] = run
        progress.close(steps)
        return done[phase, rate, seed]

    if claim.every_rate:
        for seed in chosen:
            for rate in claim.rates_of(arm):
                one("final", rate, seed, steps_of_run)
        return
    half = steps_of_run // 2
    swept = [one("sweep", rate, claim.sweep_seed, half) for rate in claim.rates_of(arm)]
    for _ in range(claim.extensions):
        beyond = next_rate(claim, swept)
        if beyond is None:
            break
        progress.more(half)
        swept.append(one("sweep", beyond, claim.sweep_seed, half))
    rate = best_rate(claim, swept)
    for seed in chosen:
        one("final", rate, seed, steps_of_run)


def _calculated(
    claim: Claim,
    arm: str,
    scale: str,
    seed: int,
    figures: dict[str, float],
    seconds: float,
    loaded: Any,
    made_by: dict[str, Any],
) -> Run:
    """The record of an arm that is calculated, not trained."""
    return Run(
        claim=claim.name,
        arm=arm,
        scale=scale,
        phase="final",
        rate=0.0,
        seed=seed,
        steps=0,
        curve={"step": [], "seconds": [seconds]},
        test={name: float(f"{value:.6g}") for name, value in figures.items()},
        data=getattr(loaded, "source", "made by rule"),
        made_by=made_by,
    )


def _rounded(value: float | None) -> float | None:
    """Six digits are enough for any figure, and keep the records small."""
    return None if value is None else float(f"{value:.6g}")


def _keep(file: Path, arrays: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    plain: Any = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(file, **plain)
