"""The diagram of an Elman cell."""

import jax.numpy as jnp

import jaxnorm as jn
from pictures.diagram import Diagram
from pictures.style import Theme

SIZE = (396, 142)
X, SUM, H = 112, 70, 28


def draw(cell: jn.Elman, theme: Theme, *, preset: bool) -> Diagram:
    """Draws it."""
    d = Diagram(cell, SIZE, theme, preset=preset)
    d.band(2, 82, 152, 140)
    total = d.op("+", 178, SUM)
    for state, row, kernel, site in (
        (d.named("$x_t$", 13, X), X, "$W$", "input"),
        (d.state("h", 16, H), H, "$U$", "recurrent"),
    ):
        product, norm = d.kernel(kernel, 54, row), d.site(site, 126, row)
        d.wire(state, product)
        d.wire(product, norm)
        d.wire(norm, (178, row), total)
    last = d.site("cell", 232, SUM)
    d.wire(total, last)
    if cell.use_bias:
        bias = d.bias("b", 284, SUM)
        d.wire(last, bias)
        last = bias
    function = d.function(r"$\tanh$" if preset and cell.activation_fn is jnp.tanh else r"$\phi$", 332, SUM)
    d.wire(last, function)
    d.wire(function, d.state("h", 382, SUM, new=True))
    return d.check("")
