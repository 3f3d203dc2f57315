"""The parts of which diagrams of cells are made: kernels, sites, functions, sums, and wires that end at their edges.

Lengths are in points; y goes up. A diagram notes which sites, gates and states it shows, so that it can be held to what
the class declares.
"""

import contextlib
import dataclasses
import itertools
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Circle, FancyBboxPatch, Polygon

import jaxnorm as jn
from pictures.style import Theme

NODE, SMALL = 10.5, 8.5
SYMBOLS = {"input": "$N_x$", "recurrent": "$N_h$", "summed": "$N_s$", "cell": "$N_c$"}
"""The letters of the equations."""
SHORT = {"LayerNorm": "LN", "RMSNorm": "RMS", "BatchNorm": "BN"}


class Node(NamedTuple):
    """A part of a diagram: its center, and half of its width and height."""

    x: float
    y: float
    w: float
    h: float


Point = tuple[float, float]


class Diagram:
    """A canvas for one cell.

    Args:
      cell: the cell.
      size: width and height.
      theme: colors.
      preset: whether sites show the normalizer that they hold; else every site is free.
    """

    def __init__(self, cell: Any, size: Point, theme: Theme, *, preset: bool) -> None:
        self.cell, self.theme, self.preset = cell, theme, preset
        width, height = size
        self.figure = Figure(figsize=(width / 72, height / 72))
        self.axes: Axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")
        self.sites: set[str] = set()
        self.gates: set[str] = set()
        self.states: set[str] = set()
        self.nodes: list[tuple[Node, Any]] = []
        """Each part with its text."""
        self.segments: list[tuple[Point, Point]] = []
        """The straight pieces of all wires."""

    # ---- parts

    def label(
        self, x: float, y: float, text: str, *, size: float = SMALL, color: str = "", align: str = "center"
    ) -> Any:
        """Writes a text."""
        color = color or self.theme.ink
        return self.axes.text(x, y, text, ha=align, va="center", size=size, color=color, zorder=5)

    def state(self, name: str, x: float, y: float, *, new: bool = False) -> Node:
        """A part of the carry, before or after the step."""
        self.states.add(name)
        return self.named(f"${name}_t$" if new else f"${name}_{{t-1}}$", x, y, half=9 if new else 14)

    def named(self, text: str, x: float, y: float, *, half: float = 9) -> Node:
        """A letter that stands for an array, without a frame."""
        node = Node(x, y, half, 9)
        self.nodes.append((node, self.label(x, y, text, size=12)))
        return node

    def _box(self, x: float, y: float, w: float, h: float, text: str, colors: tuple[str, str], round_: float) -> Node:
        fill, edge = colors
        style = f"round,pad=0,rounding_size={round_}"
        self.axes.add_patch(FancyBboxPatch((x - w, y - h), 2 * w, 2 * h, style, fc=fill, ec=edge, lw=1.1, zorder=3))
        node = Node(x, y, w, h)
        self.nodes.append((node, self.label(x, y, text, size=NODE)))
        return node

    def kernel(self, text: str, x: float, y: float) -> Node:
        """A product with a kernel."""
        return self._box(x, y, 12, 11, text, self.theme.kernel, 1.0)

    def function(self, text: str, x: float, y: float, *, half: float = 20, gate: str = "") -> Node:
        """A function that acts on each element; ``gate`` is the pre-activation that enters it."""
        self.gates |= {gate} if gate else set()
        return self._box(x, y, half, 10, text, self.theme.function, 4.0)

    def op(self, symbol: str, x: float, y: float) -> Node:
        """A sum or a product, element by element."""
        edge = self.theme.ink
        self.axes.add_patch(Circle((x, y), 7.5, fc="none", ec=edge, lw=1.1, zorder=3))
        node = Node(x, y, 7.5, 7.5)
        self.nodes.append((node, self.label(x, y, {"+": "$+$", "x": "$\\times$"}[symbol], size=11)))
        return node

    def bias(self, name: str, x: float, y: float) -> Node:
        """The sum with a bias, which comes from above."""
        node = self.op("+", x, y)
        self.wire(self.named(f"${name}$", x, y + 28, half=6), node)
        return node

    def site(self, name: str, x: float, y: float, *, over: str = "") -> Node:
        """A site: free, or with the normalizer that the cell has there; wires run through the empty sites of presets.

        ``over`` says what the statistics are taken over, where that does not follow from the gates.
        """
        self.sites.add(name)
        theme, norm = self.theme, getattr(self.cell.sites, name)
        node, w, h = Node(x, y, 20, 11), 20, 11
        empty = self.preset and norm == jn.Identity()
        optional = name in self.cell.optional_sites
        fill, edge = ("none", theme.muted) if empty else theme.site
        text, color = ("", theme.ink) if empty else (SYMBOLS[name], theme.ink)
        if self.preset and not empty:
            (fill, color), edge = theme.filled, theme.filled[0]
            text = SHORT[type(norm).__name__]
        dashed = empty or (optional and not self.preset)
        style = "round,pad=0,rounding_size=11"
        self.axes.add_patch(FancyBboxPatch((x - w, y - h), 2 * w, 2 * h, style, fc=fill, ec=edge, lw=1.1, zorder=3,
                                           ls=(0, (2.5, 2.0)) if dashed else "-"))  # fmt: skip
        if empty:
            self.segments.append(((x - w, y), (x + w, y)))
            self.axes.plot((x - w, x + w), (y, y), color=theme.ink, lw=1.1, zorder=2)
        else:
            self.nodes.append((node, self.label(x, y, text, size=NODE, color=color)))
        self.label(x, y + 18, name, color=theme.muted if empty else edge)
        if self.preset and not empty:
            self.label(x, y - 18, over or self.statistics(name, norm), color=edge)
        return node

    def statistics(self, site: str, norm: Any) -> str:
        """Over what a normalizer takes its statistics."""
        if isinstance(norm, jn.BatchNorm):
            return "over batch"
        groups = getattr(self.cell, "gate_groups", (1,))
        if site == "cell" or groups == (1,):
            return "over H"
        if set(groups) == {1}:
            return f"{len(groups)} × H"
        return "over " + ", ".join("H" if size == 1 else f"{size}H" for size in groups)

    def band(self, left: float, bottom: float, right: float, top: float) -> None:
        """The background of what is computed before the loop."""
        style = "round,pad=0,rounding_size=5"
        self.axes.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, style, fc=self.theme.band,
                                           ec="none", zorder=0))  # fmt: skip
        self.label(left + 5, bottom + 8, "all steps at once", color=self.theme.muted, align="left")

    # ---- wires

    def wire(self, *stops: Node | Point, arrow: bool = True) -> None:
        """Leads from part to part, straight up, down, left or right; it begins and ends at their edges."""
        points = [stop[:2] for stop in stops]
        for a, b in itertools.pairwise(points):
            if a[0] != b[0] and a[1] != b[1]:
                raise ValueError(f"a wire goes aslant, from {a} to {b}")
        points[0] = _edge(stops[0], points[1])
        points[-1] = tip = _edge(stops[-1], points[-2])
        self.segments += list(itertools.pairwise(points))
        self.axes.plot(*zip(*points, strict=True), color=self.theme.ink, lw=1.1, zorder=2, solid_joinstyle="miter")
        if arrow:
            (x, y), (dx, dy) = tip, _direction(points[-2], tip)
            corners = [
                (x, y),
                (x - 6 * dx - 2.8 * dy, y - 6 * dy - 2.8 * dx),
                (x - 6 * dx + 2.8 * dy, y - 6 * dy + 2.8 * dx),
            ]
            self.axes.add_patch(Polygon(corners, fc=self.theme.ink, ec="none", zorder=4))

    def dot(self, x: float, y: float) -> Point:
        """Where a wire branches."""
        self.axes.add_patch(Circle((x, y), 2.1, fc=self.theme.ink, ec="none", zorder=4))
        return x, y

    def bridge(self, x: float, y: float) -> None:
        """Leads an upright wire around one that it crosses, from 5 below to 5 above."""
        self.axes.add_patch(Arc((x, y), 10, 10, theta1=-90, theta2=90, ec=self.theme.ink, lw=1.1, zorder=2))

    # ---- the whole

    def check(self, gates: str) -> "Diagram":
        """Raises ValueError unless the diagram shows what the cell declares."""
        cell = self.cell
        shown = {"gates": self.gates, "entries of the carry": self.states}
        declared = {"gates": set(gates.split()), "entries of the carry": set(cell.carry_type._fields)}
        for what, names in declared.items():
            if shown[what] != names:
                raise ValueError(f"the diagram of {cell} shows the {what} {shown[what]}, but it has {names}")
        if getattr(cell, "gate_count", 1) != max(1, len(self.gates)):
            raise ValueError(f"the diagram of {cell} shows {self.gates}, but it has {cell.gate_count} gates")
        declared_sites = {site for site in (*cell.default_sites, *cell.optional_sites) if _may_hold(cell, site)}
        if self.sites != declared_sites:
            raise ValueError(f"the diagram of {cell} shows the sites {self.sites}, but it declares {declared_sites}")
        return self


def _may_hold(cell: Any, site: str) -> bool:
    """Whether a normalizer may stand at a site; other fields of a cell can rule that out."""
    for norm in (jn.LayerNorm(), jn.RMSNorm()):
        with contextlib.suppress(ValueError):
            dataclasses.replace(cell, norm=jn.CellNorms(**{site: norm}))
            return True
    return False


def _direction(a: Point, b: Point) -> Point:
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = abs(dx) + abs(dy)
    return dx / length, dy / length


def _edge(stop: Node | Point, toward: Point) -> Point:
    """Where a wire that comes from ``toward`` meets a part; a point is met where it is."""
    if not isinstance(stop, Node):
        return stop
    dx, dy = _direction(stop[:2], toward)
    return stop.x + dx * stop.w, stop.y + dy * stop.h
