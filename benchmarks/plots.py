"""Pictures of the results: all libraries beside ours, and growth."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.results import Row, series, steps

COLORS = (
    "#D55E00", "#CC79A7", "#2F86C9", "#56B4E9", "#009E73", "#B8A600", "#E69F00", "#AA4499", "#999999",
)  # fmt: skip
"""Of the libraries beside ours, which has the color of the text."""
MARKERS = "sD^vPX*<>"
WIDTH = 6.4


def cells(rows: Sequence[Row]) -> Figure | None:
    """For each model, direction and library the time relative to ours, shapes side by side, in float32."""
    rows = [row for row in rows if row.group == "cells" and row.dtype == "float32"]
    models, directions = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("model", "direction"))
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 1.75 * len(models) + 1.2), layout="constrained")
    panels = figure.subplots(len(models), len(directions), squeeze=False, sharex=True, sharey=True)
    shapes = list(dict.fromkeys(row.shape for row in rows))
    style = _styles(rows)
    for line, model in zip(panels, models, strict=True):
        for panel, direction in zip(line, directions, strict=True):
            own = [row for row in rows if (row.model, row.direction) == (model, direction)]
            _relative(panel, own, shapes, style)
            panel.set_title(f"{model}, {direction}", fontsize=10)
        line[0].set_ylabel("time / time of ours")
    return _finish(figure, panels.flat)


def _relative(panel: Axes, rows: Sequence[Row], shapes: Sequence[str], style: dict[str, dict[str, Any]]) -> None:
    ours = {row.shape: row.median_ms for row in rows if row.library == "ours"}
    for library in dict.fromkeys(row.library for row in rows):
        own = [row for row in rows if row.library == library and row.shape in ours]
        xs = [shapes.index(row.shape) for row in own]
        panel.plot(xs, [row.median_ms / ours[row.shape] for row in own], linestyle=":", label=library, **style[library])
    _logarithmic(panel)
    panel.set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=8)


def growth(rows: Sequence[Row]) -> Figure | None:
    """For each series the time of a step and the temporary memory against the size that grows."""
    rows = [row for row in rows if row.group == "growth"]
    names = list(dict.fromkeys((series(row), row.model, row.direction, row.dtype) for row in rows))
    if not rows:
        return None
    figure = Figure(figsize=(WIDTH, 2.2 * len(names) + 0.6), layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False)
    style = _styles(rows)
    for line, name in zip(panels, names, strict=True):
        own = [row for row in rows if (series(row), row.model, row.direction, row.dtype) == name]
        _against_size(line[0], own, [1e3 * row.median_ms / steps(row) for row in own], style)
        _against_size(line[1], own, [(row.xla_temp_bytes or 0) / 2**20 for row in own], style)
        line[0].set_title(", ".join(name), fontsize=9.5, loc="left")
        line[0].set_ylabel("time per step, µs")
        line[1].set_ylabel("temporary memory\nby XLA, MiB")
    return _finish(figure, panels.flat)


def _against_size(panel: Axes, rows: Sequence[Row], values: Sequence[float], style: dict[str, dict[str, Any]]) -> None:
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
            panel.plot(*zip(*points, strict=True), label=library, **style[library])
    _logarithmic(panel)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_xlabel(("batch", "steps", "inputs", "hidden features")[axis])


def _logarithmic(panel: Axes) -> None:
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")


def _styles(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """A color and a marker for each library, the same in all panels; ours has the color of the text."""
    others = [library for library in dict.fromkeys(row.library for row in rows) if library != "ours"]
    looks = {
        name: {"color": COLORS[k % len(COLORS)], "marker": MARKERS[k % len(MARKERS)]} for k, name in enumerate(others)
    }
    return {"ours": {"color": matplotlib.rcParams["text.color"], "marker": "o"}} | looks


def _finish(figure: Figure, panels: Iterable[Axes]) -> Figure:
    handles: dict[Any, Any] = {}
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        for line in panel.get_lines():
            line.set_markersize(4.5)
        handles |= {line.get_label(): line for line in panel.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", frameon=False, fontsize=9, ncols=5)
    return figure


def png(figure: Figure) -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
