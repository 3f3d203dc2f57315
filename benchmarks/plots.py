"""Pictures of the results: all libraries beside ours, and growth."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.results import Row, series, steps

COLORS = (
    "#000000", "#D55E00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73", "#B8A600", "#E69F00", "#882255", "#999999",
)  # fmt: skip
MARKERS = "osD^vPX*<>"


def cells(rows: Sequence[Row]) -> bytes | None:
    """For each model, direction and library the time relative to ours, shapes side by side, in float32."""
    rows = [row for row in rows if row.group == "cells" and row.dtype == "float32"]
    models, directions = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("model", "direction"))
    if not rows:
        return None
    size = (3.6 * len(models) + 1, 3.4 * len(directions))
    figure, panels = plt.subplots(len(directions), len(models), figsize=size, squeeze=False, sharey=True,
                                  layout="constrained")  # fmt: skip
    for line, direction in zip(panels, directions, strict=True):
        for panel, model in zip(line, models, strict=True):
            _relative(panel, [row for row in rows if (row.model, row.direction) == (model, direction)])
            panel.set_title(f"{model}, {direction}", fontsize=10)
        line[0].set_ylabel("time / time of ours")
    return _finish(figure, panels.flat)


def _relative(panel: Axes, rows: Sequence[Row]) -> None:
    shapes = list(dict.fromkeys(row.shape for row in rows))
    ours = {row.shape: row.median_ms for row in rows if row.library == "ours"}
    for library in dict.fromkeys(row.library for row in rows):
        own = [row for row in rows if row.library == library and row.shape in ours]
        xs = [shapes.index(row.shape) for row in own]
        panel.plot(
            xs, [row.median_ms / ours[row.shape] for row in own], linestyle=":", label=library, **_style(library)
        )
    panel.set_yscale("log")
    panel.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=7)


def growth(rows: Sequence[Row]) -> bytes | None:
    """For each series the time of a step and the temporary memory against the size that grows."""
    rows = [row for row in rows if row.group == "growth"]
    names = list(dict.fromkeys((series(row), row.model, row.direction, row.dtype) for row in rows))
    if not rows:
        return None
    figure, panels = plt.subplots(2, len(names), figsize=(4 * len(names) + 1, 6.4), squeeze=False,
                                  layout="constrained")  # fmt: skip
    for column, name in enumerate(names):
        own = [row for row in rows if (series(row), row.model, row.direction, row.dtype) == name]
        _against_size(panels[0, column], own, [1e3 * row.median_ms / steps(row) for row in own])
        _against_size(panels[1, column], own, [(row.xla_temp_bytes or 0) / 2**20 for row in own])
        panels[0, column].set_title(", ".join(name), fontsize=10)
    panels[0, 0].set_ylabel("time per step, µs")
    panels[1, 0].set_ylabel("temporary memory by XLA, MiB")
    return _finish(figure, panels.flat)


def _against_size(panel: Axes, rows: Sequence[Row], values: Sequence[float]) -> None:
    sizes = [tuple(map(int, row.shape.partition(":")[2].split("x"))) for row in rows]
    growing = [axis for axis in range(4) if len({size[axis] for size in sizes}) > 1]
    axis = growing[-1] if growing else 1
    for library in dict.fromkeys(row.library for row in rows):
        points = [
            (size[axis], value)
            for row, size, value in zip(rows, sizes, values, strict=True)
            if row.library == library and value
        ]
        if points:
            panel.plot(*zip(*points, strict=True), label=library, **_style(library))
    _logarithmic(panel)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xlabel(("batch", "steps", "inputs", "hidden features")[axis])


def _logarithmic(panel: Axes) -> None:
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")


_styles: dict[str, dict[str, Any]] = {}


def _style(library: str) -> dict[str, Any]:
    """A color and a marker for each library, the same in all panels."""
    number = len(_styles) % len(COLORS)
    return _styles.setdefault(library, {"color": COLORS[number], "marker": MARKERS[number]})


def _finish(figure: Figure, panels: Iterable[Axes]) -> bytes:
    handles: dict[Any, Any] = {}
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        handles |= {line.get_label(): line for line in panel.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=9)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    plt.close(figure)
    return file.getvalue()
