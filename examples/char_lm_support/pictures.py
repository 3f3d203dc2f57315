"""The two pictures: curves at the best learning rate, and how far the learning rate may be from it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from .summary import MARGIN, Summary

# Colors that stay apart for color-blind readers (Okabe and Ito), and dashes for print.
COLORS = ("#555555", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A600")
STYLES = ("--", "-", "-.", ":")
HEADROOM = 2.5
"""Bits above the best model that the picture of the rates shows; what is worse does not learn."""


def curves(summaries: Sequence[Summary], about: str) -> Figure:
    """Validation bits against steps and against seconds, each model at its best rate: mean and range over seeds."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, key, label in zip(panels, ("steps", "seconds"), ("training steps", "seconds of training"), strict=True):
        for k, found in enumerate(summaries):
            places = getattr(found.band, key)
            panel.fill_between(
                places, found.band.low, found.band.high, color=_style(k)["color"], alpha=0.2, linewidth=0
            )
            panel.plot(places, found.band.mean, **_style(k), marker="o", markersize=3.5, label=found.title)
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(panel)
    panels[0].set_ylabel("validation, bits per character")
    panels[1].legend(frameon=False, fontsize=11)
    seeds = len(summaries[0].finals)
    shown = f"mean and range of {seeds} seeds" if seeds > 1 else "1 seed"
    figure.suptitle(f"{about}\neach model at its best learning rate, {shown}", fontsize=12)
    return figure


def rates(summaries: Sequence[Summary], about: str) -> Figure:
    """Bits at the end of the sweep against the learning rate; thick where a rate works."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    panel = figure.subplots()
    for k, found in enumerate(summaries):
        tried = np.array(sorted(found.swept))
        bits = np.array([found.swept[rate] for rate in tried])
        bits[~np.isfinite(bits)] = np.nan
        panel.plot(tried, bits, **_style(k), marker="o", markersize=3.5,
                   label=f"{found.model}: {found.works.describe()} octaves")  # fmt: skip
        inside = [found.works.low, *(r for r in tried if found.works.low < r < found.works.high), found.works.high]
        level = np.interp(np.log(inside), np.log(tried), np.nan_to_num(bits, nan=np.nanmax(bits, initial=0.0)))
        panel.plot(inside, level, color=_style(k)["color"], linewidth=7, alpha=0.3, solid_capstyle="round")
    best = min(found.swept[found.rate] for found in summaries)
    if math.isfinite(best):
        panel.set_ylim(top=min(panel.get_ylim()[1], best + HEADROOM))
    panel.set_xscale("log", base=2)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(sorted({rate for found in summaries for rate in found.swept}))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    panel.set_xlabel("learning rate of Adam")
    panel.set_ylabel("validation, bits per character")
    panel.legend(frameon=False, fontsize=11, title=f"rates within {MARGIN:g} bit of a model's best")
    _tidy(panel)
    figure.suptitle(about, fontsize=12)
    return figure


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, format="png")


def _style(k: int) -> dict[str, Any]:
    return {"color": COLORS[k % len(COLORS)], "linestyle": STYLES[(k and 1 + (k - 1) // 8) % 4], "linewidth": 1.8}


def _tidy(panel: Any) -> None:
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
