"""The diagram of an LSTM, from its equations: pre-activations above, the cell state and the output below."""

import jaxnorm as jn
from pictures.diagram import Diagram, Point
from pictures.style import Theme

WIDTH, HEIGHT = 396, 266
ROOM = 12
"""More height for a bias above the first row."""
X, SUM, H, BUS, GATE, OUT, C = 238, 196, 154, 122, 98, 66, 28
"""Heights of the rows."""


def draw(cell: jn.LSTM, theme: Theme, *, preset: bool) -> Diagram:
    """Draws it."""
    top = HEIGHT + (ROOM if _early(cell) else 0)
    d = Diagram(cell, (WIDTH, top), theme, preset=preset)
    d.band(2, 208, 152, top - 2)
    _gates(d, _pre_activations(d))
    return d.check("i f g o")


def _early(cell: jn.LSTM) -> bool:
    return cell.use_bias and cell.bias_at != "end"


def _pre_activations(d: Diagram) -> Point:
    """From x and h to the sum; returns where the pre-activations leave."""
    at = d.cell.bias_at if d.cell.use_bias else None
    x, h = d.named("$x_t$", 13, X), d.state("h", 16, H)
    sides = []
    for state, row, kernel, site, early in (
        (x, X, "$W$", "input", _early(d.cell)),
        (h, H, "$U$", "recurrent", at == "each"),
    ):
        product = d.kernel(kernel, 54, row)
        norm = d.site(site, 126, row)
        d.wire(state, product)
        if early:
            bias = d.bias("b_h" if site == "recurrent" else "b", 86, row)
            d.wire(product, bias)
            d.wire(bias, norm)
        else:
            d.wire(product, norm)
        sides.append((norm, row))
    total = d.op("+", 178, SUM)
    for norm, row in sides:
        d.wire(norm, (178, row), total)
    summed = d.site("summed", 232, SUM)
    d.wire(total, summed)
    if at in ("end", "both"):
        bias = d.bias("b", 286, SUM)
        d.wire(summed, bias)
        d.wire(bias, (372, SUM), (372, BUS), (66, BUS), arrow=False)
    else:
        d.wire(summed, (372, SUM), (372, BUS), (66, BUS), arrow=False)
    return 66, BUS


def _gates(d: Diagram, bus: Point) -> None:
    """From the pre-activations to c and h."""
    cell = d.cell
    f = d.function(r"$\sigma(f)$", 66, GATE, gate="f")
    i = d.function(r"$\sigma(i)$", 122, GATE, gate="i")
    g = d.function(r"$\tanh(g)$", 182, GATE, half=25, gate="g")
    o = d.function(r"$\sigma(o)$", 340, GATE, gate="o")
    for gate in (f, i, g, o):
        d.wire((gate.x, bus[1]), gate)
        if gate is not f:
            d.dot(gate.x, bus[1])
    forget, add, both = d.op("x", 66, C), d.op("+", 152, C), d.op("x", 152, OUT)
    before, after = d.state("c", 18, C), d.state("c", 382, C, new=True)
    d.wire(f, forget)
    d.wire(i, (122, OUT), both)
    d.wire(g, (182, OUT), both)
    d.wire(both, add)
    d.wire(before, forget)
    d.wire(forget, add)
    out, h = d.op("x", 340, OUT), d.state("h", 382, OUT, new=True)
    d.wire(o, out)
    d.wire(out, h)
    last = add
    if cell.cell_clip is not None:
        clip = d.function("clip", 194, C, half=16)
        d.wire(add, clip)
        last = clip
    if cell.carried_cell == "raw":
        branch = d.dot(222, C)
        d.wire(last, after)
        norm, tanh = d.site("cell", 254, OUT), d.function(r"$\tanh$", 304, OUT, half=18)
        d.wire(branch, (222, OUT), norm)
        d.wire(norm, tanh)
    else:
        norm, tanh = d.site("cell", 234, C), d.function(r"$\tanh$", 304, OUT, half=18)
        d.wire(last, norm)
        branch = d.dot(268, C)
        d.wire(norm, after)
        d.wire(branch, (268, OUT), tanh)
    d.wire(tanh, out)
