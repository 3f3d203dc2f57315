"""The diagrams of a GRU, from its equations.

The reset gate multiplies the recurrent part of the candidate, or all of it; the GRU of DreamerV3 normalizes [x, h]
before its product.
"""

import jaxnorm as jn
from pictures.diagram import NODE, Diagram, Node
from pictures.style import Theme

SIZE = (416, 232)
X, MID, H, OLD = 190, 136, 82, 28
"""Heights of the rows."""


def draw(cell: jn.GRU, theme: Theme, *, preset: bool) -> Diagram:
    """Draws it."""
    d = Diagram(cell, SIZE, theme, preset=preset)
    (_recurrent if cell.reset == "recurrent" else _candidate)(d)
    return d.check("r z n")


def draw_concatenated(cell: jn.zoo.ConcatenatedGRU, theme: Theme, *, preset: bool) -> Diagram:
    """Draws the GRU whose one normalizer acts on [x, h], before one product with the kernel K of both."""
    d = Diagram(cell, SIZE, theme, preset=preset)
    both = d.named("$[x, h]$", 62, MID, half=20)
    d.wire(d.named("$x_t$", 13, X), (62, X), both)
    d.wire(d.state("h", 16, H), (62, H), both)
    norm, product = d.site("input", 122, MID, over="over I + H"), d.kernel("$K$", 170, MID)
    d.wire(both, norm)
    d.wire(norm, product)
    last = product
    if cell.use_bias:
        last = d.bias("b", 208, MID)
        d.wire(product, last)
    _reset_all(d, last, keep=False)
    return d.check("r z n")


def _sides(d: Diagram, norm_at: float, bias_at: float | None) -> tuple[Node, Node]:
    """From x and h to both normalized products, with the biases that enter before they meet."""
    cell = d.cell
    x, h = d.named("$x_t$", 13, X), d.state("h", 16, H)
    early = cell.use_bias and cell.bias_at == "input"
    late = cell.use_bias and cell.bias_at == "end" and bias_at is not None
    d.band(2, 160, (bias_at + 14) if late and bias_at else norm_at + 26, 230 if early or late else 220)
    ends = []
    for state, row, kernel, site, name in ((x, X, "$W$", "input", "b"), (h, H, "$U$", "recurrent", "b_h")):
        product, norm = d.kernel(kernel, 56, row), d.site(site, norm_at, row)
        d.wire(state, product)
        last = product
        if early and site == "input":
            last = d.bias("b", (product.x + product.w + norm.x - norm.w) / 2, row)
            d.wire(product, last)
        d.wire(last, norm)
        last = norm
        if late and bias_at is not None:
            last = d.bias(name, bias_at, row)
            d.wire(norm, last)
        ends.append(last)
    return ends[0], ends[1]


def _mix(d: Diagram, z: Node, row: float, n: Node, *, keep: bool) -> None:
    """The new state, between candidate and old state; ``row`` is where z leaves its function."""
    new, old, total = d.op("x", 352, X), d.op("x", 352, OLD), d.op("+", 380, MID)
    minus = d.function("$1-z$", 352, 162 if keep else 56, half=17)
    branch = d.dot(352, row)
    d.wire(z, branch, arrow=False)
    d.label(320, row + 8, "$z$", size=NODE)
    d.wire(branch, minus)
    d.wire(minus, new if keep else old)
    d.wire(branch, old if keep else new)
    d.wire(d.dot(37, H), (37, OLD), old)
    d.wire(n, new)
    d.wire(new, (380, X), total)
    d.wire(old, (380, OLD), total)
    d.wire(total, d.state("h", 405, MID, new=True))


def _recurrent(d: Diagram) -> None:
    """The reset gate multiplies the recurrent part of the candidate."""
    x, h = _sides(d, 107, 148)
    both = d.op("+", 174, MID)
    gates = d.function(r"$\sigma$", 206, MID, half=12, gate="z")
    d.gates.add("r")
    reset, add = d.op("x", 236, H), d.op("+", 268, X)
    n = d.function(r"$\tanh$", 306, X, half=18, gate="n")
    d.wire(d.dot(174, X), both)
    d.wire(d.dot(174, H), both)
    d.wire(x, add)
    d.wire(h, reset)
    d.wire(both, gates)
    d.wire(d.dot(236, MID), reset)
    d.wire(reset, (268, H), (268, MID - 5), arrow=False)
    d.bridge(268, MID)
    d.wire((268, MID + 5), add)
    d.wire(add, n)
    d.label(243, 109, "$r$", size=NODE)
    for text, height in (("$n_x$", X + 9), ("$n_h$", H + 9)):
        d.label(206, height, text, size=NODE)
    d.label(178, 164, "$r_x, z_x$", size=NODE, align="left")
    d.label(178, 107, "$r_h, z_h$", size=NODE, align="left")
    _mix(d, gates, MID, n, keep=d.cell.update_gate == "keep")


def _candidate(d: Diagram) -> None:
    """The reset gate multiplies all of the candidate."""
    x, h = _sides(d, 100, None)
    total, summed = d.op("+", 138, MID), d.site("summed", 178, MID)
    d.wire(x, (138, X), total)
    d.wire(h, (138, H), total)
    d.wire(total, summed)
    last = summed
    if d.cell.use_bias and d.cell.bias_at == "end":
        last = d.bias("b", 216, MID)
        d.wire(summed, last)
    _reset_all(d, last, keep=d.cell.update_gate == "keep")


def _reset_all(d: Diagram, last: Node, *, keep: bool) -> None:
    """From the pre-activations ``last`` to the new state, with the reset gate on the whole candidate."""
    branch = d.dot(237, MID)
    r = d.function(r"$\sigma(r)$", 268, MID, half=17, gate="r")
    z = d.function(r"$\sigma(z)$", 268, H, half=17, gate="z")
    times, n = d.op("x", 268, X), d.function(r"$\tanh$", 306, X, half=18, gate="n")
    d.wire(last, r)
    d.wire(branch, (237, X), times)
    d.wire(branch, (237, H), z)
    d.wire(r, times)
    d.wire(times, n)
    d.label(249, X + 9, "$n'$", size=NODE)
    _mix(d, z, H, n, keep=keep)
