"""Every picture that a build draws, with what it says in words."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from matplotlib.figure import Figure

from pictures import cells, measured, through_time
from pictures.style import Theme


class Picture(NamedTuple):
    """How it is drawn, and what a reader who does not see it reads instead."""

    draw: Callable[[Theme], Figure]
    alt: str


def _diagram(name: str, theme: Theme) -> Figure:
    return cells.diagram(name, theme).figure


DIAGRAMS = {name: Picture(partial(_diagram, name), cells.alt(name)) for name in cells.ALL}
CHARTS = {
    "activations": Picture(
        through_time.activations,
        "Four maps of h with a column a step and a row a feature: LSTM, LN-LSTM, BN-LSTM and GRU over the same noise. "
        "The BN-LSTM is palest, since its gains start at 0.1.",
    ),
    "gradients": Picture(
        through_time.gradients,
        "The norm of the gradient with respect to h at each of a hundred steps, on a logarithmic axis, "
        "with the recurrent kernel times a quarter, one and four. Those of LSTM and GRU part by many orders of "
        "magnitude; those of LN-LSTM and BN-LSTM lie on one another.",
    ),
    "invariances": Picture(
        measured.invariance_table,
        "A table with a row for each normalizer and a column for each change of weights or data; a blue yes where the "
        "output does not show the change, a gray no where it does.",
    ),
    "speed": Picture(
        measured.speed,
        "The time of each library divided by ours, forward and gradient, for five cells and six shapes, on a "
        "logarithmic axis.",
    ),
    "growth": Picture(
        measured.growth,
        "Time of a step and temporary memory of the LN-LSTM against the number of steps, the batch and the hidden "
        "features, beside Flax.",
    ),
    "verdicts": Picture(
        measured.verdicts,
        "A row for each claim with the interval of its difference in margins; shaded where the claim says it lies. "
        f"{measured.verdicts_in_words().capitalize()}.",
    ),
}
PICTURES = DIAGRAMS | CHARTS
