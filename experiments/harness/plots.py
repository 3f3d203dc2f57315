"""The picture of a claim: curves against steps and seconds, and the sweep of learning rates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from experiments.harness.claim import Claim
from experiments.harness.records import Run

# Colors that stay apart for color-blind readers (Okabe and Ito).
COLORS = ("#555555", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A600")


def style(arms: Sequence[str], arm: str) -> dict[str, Any]:
    """The line of an arm, the same in each panel."""
    k = list(arms).index(arm)
    dashes = ("-", "--", ":", "-.")[k // len(COLORS) % 4]
    return {"color": COLORS[k % len(COLORS)], "linestyle": dashes, "linewidth": 1.6}


def save(figure: Any, path: Path) -> None:
    """Writes a picture whose bytes depend on what it shows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def band(runs: Sequence[Run], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Steps, mean seconds, and mean, lowest and highest value over seeds, as far as all seeds went."""
    shared = min(len(run.curve["step"]) for run in runs)
    values = np.array([[np.nan if v is None else v for v in run.curve[key][:shared]] for run in runs], float)
    seconds = np.array([run.curve["seconds"][:shared] for run in runs], float).mean(axis=0)
    steps = np.asarray(runs[0].curve["step"][:shared], float)
    return steps, seconds, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def curves(claim: Claim, runs: Sequence[Run]) -> Any:
    """Three panels: against steps, against seconds of training, and the sweep; a row of them per kind of arms."""
    rows = claim.axes or {claim.curve_label: tuple(claim.arms)}
    size = (13, 4.2 * len(rows))
    figure, panels = plt.subplots(len(rows), 3, figsize=size, layout="constrained", squeeze=False)
    for (label, arms), (by_steps, by_seconds, by_rate) in zip(rows.items(), panels, strict=True):
        _training(claim, runs, arms, by_steps, by_seconds)
        _sweep(claim, runs, arms, by_rate)
        by_steps.set_ylabel(label)
        for panel in (by_steps, by_seconds, by_rate):
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
        if by_steps.get_legend_handles_labels()[0]:
            by_steps.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{claim.claim}\nbest rate of each arm in brackets; the band spans the seeds", fontsize=10)
    return figure


def _training(claim: Claim, runs: Sequence[Run], arms: Sequence[str], by_steps: Any, by_seconds: Any) -> None:
    """The final runs, against steps and against seconds."""
    bands = []
    for arm in arms:
        final = [run for run in runs if run.arm == arm and run.phase == "final"]
        if final:
            steps, seconds, mean, low, high = band(final, claim.curve)
            line = style(list(claim.arms), arm)
            bands.append(np.stack([low, high]))
            for panel, x in ((by_steps, steps), (by_seconds, seconds)):
                panel.plot(x, mean, label=f"{arm} ({final[0].rate:g})", **line)
                panel.fill_between(x, low, high, color=line["color"], alpha=0.15, linewidth=0)
    for panel in (by_steps, by_seconds):
        leave_out_the_start(panel, bands)
    by_steps.set_xlabel("training steps")
    by_seconds.set_xlabel("seconds of training")


def _sweep(claim: Claim, runs: Sequence[Run], arms: Sequence[str], panel: Any) -> None:
    """What each rate gave, in the figure that chooses: a ring at the rate chosen, a cross where a run diverged."""
    for arm in arms:
        tried = sorted((r for r in runs if r.arm == arm and r.phase == "sweep"), key=lambda r: r.rate)
        line = style(list(claim.arms), arm)
        figures = [np.nan if run.diverged is not None else claim.contrast.measure([run]) for run in tried]
        panel.plot([run.rate for run in tried], figures, marker="o", markersize=3.5, **line)
        chosen = {run.rate for run in runs if run.arm == arm and run.phase == "final"}
        at = [k for k, run in enumerate(tried) if run.rate in chosen]
        rings = {"marker": "o", "markersize": 9, "fillstyle": "none", "linestyle": "none", "color": line["color"]}
        panel.plot([tried[k].rate for k in at], [figures[k] for k in at], **rings)
        gone = [run.rate for run in tried if run.diverged is not None]
        panel.plot(gone, [0.98] * len(gone), "x", color=line["color"], transform=panel.get_xaxis_transform())
    panel.set_xscale("log", base=2)
    panel.set_xlabel("learning rate, sweep at half length")
    panel.set_ylabel("figure that chooses the rate")


def leave_out_the_start(panel: Any, bands: Sequence[np.ndarray]) -> None:
    """Shows the curves from their second point on where the first, before any training, would take half the height."""
    whole, trained = (np.concatenate([part[:, first:].ravel() for part in bands] or [np.zeros(0)]) for first in (0, 1))
    whole, trained = whole[np.isfinite(whole)], trained[np.isfinite(trained)]
    if trained.size and np.ptp(whole) > 2 * np.ptp(trained) > 0:
        margin = 0.05 * np.ptp(trained)
        panel.set_ylim(trained.min() - margin, trained.max() + margin)


def every_rate(claim: Claim, runs: Sequence[Run]) -> Any:
    """One panel: what each rate ended with, a line an arm, the band over seeds, a cross where a seed diverged."""
    figure, panel = plt.subplots(figsize=(8, 4.6), layout="constrained")
    arms, ends = list(claim.arms), []
    for arm in arms:
        own = [run for run in runs if run.arm == arm and run.phase == "final"]
        tried = sorted({run.rate for run in own})
        if not tried:
            continue
        values = [[_end(run, claim) for run in own if run.rate == rate] for rate in tried]
        mean = np.array([np.mean(seeds) for seeds in values])
        line = style(arms, arm)
        panel.plot(tried, mean, marker="o", markersize=4, label=arm, **line)
        panel.fill_between(tried, [min(seeds) for seeds in values], [max(seeds) for seeds in values],
                           color=line["color"], alpha=0.15, linewidth=0)  # fmt: skip
        gone = [rate for rate, seeds in zip(tried, values, strict=True) if np.isnan(seeds).any()]
        panel.plot(gone, [0.98] * len(gone), "x", color=line["color"], transform=panel.get_xaxis_transform())
        ends += [value for value in mean if np.isfinite(value)]
    if ends:  # the best are told apart; what learned next to nothing leaves the picture at the top
        low, high = min(ends), max(ends)
        panel.set_ylim(low - 0.05 * (high - low), low + min(high - low, 2.5 * (np.median(ends) - low) + 0.1) * 1.1)
    panel.set_xscale("log", base=2)
    ticks = sorted({rate for arm in arms for rate in claim.rates_of(arm)})
    panel.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    panel.minorticks_off()
    panel.set_xlabel("learning rate")
    panel.set_ylabel(f"{claim.curve_label}, at the end")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", frameon=False, ncols=min(6, len(arms)))
    return figure


def _end(run: Run, claim: Claim) -> float:
    value = run.curve[claim.curve][-1]
    return np.nan if value is None or run.diverged is not None else value


def pictures(claim: Claim, runs: Sequence[Run], folder: Path) -> Mapping[str, Any]:
    """All figures of a claim, by file name."""
    result: dict[str, Any] = {}
    if any(run.curve.get("step") for run in runs):
        result = {"rates.png": every_rate(claim, runs)} if claim.every_rate else {"curves.png": curves(claim, runs)}
    if claim.pictures is not None:
        artifacts = {
            arm: dict(np.load(file)) for arm in claim.arms if (file := folder / "artifacts" / f"{arm}.npz").exists()
        }
        result |= claim.pictures(runs, artifacts)
    return result
