"""The picture of all verdicts: a row a claim, its interval in margins, and where the claim says that it lies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import statistics
from experiments.harness.claim import Claim

FARTHEST = 300.0
"""The ends of the axis, in margins."""
AS_CLAIMED, NOT_AS_CLAIMED, OPEN = "#2b7cbc", "#c9590a", "#737d88"
"""Colors that can be read on white and on black."""


class Row(NamedTuple):
    """One claim: the difference in units of the margin, to the right if the arm is better than the baseline."""

    number: int
    name: str
    claimed: str
    interval: tuple[float, float, float] | None
    """Low, mean, high; None where the claim has not been run."""
    verdict: str
    as_claimed: bool


def rows(claims: Sequence[Claim], judged: Mapping[str, tuple[statistics.Interval, statistics.Verdict]]) -> list[Row]:
    """The rows of the picture. Where the margin is zero the unit is one."""
    found = []
    for claim in claims:
        contrast, interval, verdict = claim.contrast, None, "not run yet"
        if claim.name in judged:
            values, verdict = judged[claim.name]
            unit = (1 if contrast.better == "higher" else -1) * (contrast.margin or 1.0)
            low, high = sorted((values.low / unit, values.high / unit))
            interval = low, values.mean / unit, high
        agrees = claim.name in judged and statistics.as_claimed(judged[claim.name][1], contrast)
        found.append(Row(claim.number, claim.name.replace("_", " "), contrast.claimed, interval, verdict, agrees))
    return found


def region(claimed: str) -> tuple[float, float]:
    """Where an interval lies that agrees with a claim."""
    return {"better": (0.0, FARTHEST), "equal": (-1.0, 1.0), "not better": (-FARTHEST, 1.0)}[claimed]


def figure(shown: Sequence[Row]) -> Figure:
    """Draws it, in the colors of the settings of matplotlib."""
    drawing = Figure(figsize=(6.0, 0.27 * len(shown) + 1.2), layout="constrained")
    panel = drawing.subplots()
    ink = matplotlib.rcParams["text.color"]
    panel.set_xscale("symlog", linthresh=1, linscale=0.8)
    for height, row in enumerate(shown):
        low, high = region(row.claimed)
        panel.barh(height, high - low, left=low, height=0.72, color=AS_CLAIMED, alpha=0.16, linewidth=0)
        _interval(panel, height, row)
    panel.axvline(0, color=ink, linewidth=0.8)
    panel.set_xlim(-FARTHEST, FARTHEST)
    panel.set_ylim(len(shown) - 0.4, -0.6)
    ticks = [-100, -10, -1, 0, 1, 10, 100]
    panel.set_xticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks], fontsize=8.5)
    panel.minorticks_off()
    panel.set_yticks(range(len(shown)), [f"{row.name}  {row.number}" for row in shown], fontsize=8.5)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_xlabel(
        "baseline better  ←  difference in margins  →  arm better\nshaded: where the claim says it lies", fontsize=8.5
    )
    return drawing


def _interval(panel: Axes, height: int, row: Row) -> None:
    """The interval of a row, and its verdict at the right."""
    color = OPEN
    if row.interval is not None:
        low, mean, high = (float(np.clip(value, -FARTHEST, FARTHEST)) for value in row.interval)
        color = AS_CLAIMED if row.as_claimed else OPEN if row.verdict == "undecided" else NOT_AS_CLAIMED
        panel.plot((low, high), (height, height), color=color, linewidth=2.4, solid_capstyle="round")
        panel.plot([mean], [height], "o" if row.as_claimed else "s", color=color, markersize=6)
    panel.annotate(
        row.verdict, (1.02, height), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=color,
        fontweight="bold" if row.interval is not None else "normal",
    )  # fmt: skip
