"""The cells that have a diagram: those of the core, its presets, and the wirings of the LN-LSTM."""

from collections.abc import Callable
from typing import Any

import jaxnorm as jn
from pictures import elman, gru, lstm
from pictures.diagram import Diagram
from pictures.style import LIGHT, Theme

H = 8
CELLS: dict[str, Any] = {
    "lstm_cell": jn.LSTM(H),
    "gru_cell": jn.GRU(H),
    "gru_cell_candidate": jn.GRU(H, reset="candidate"),
    "elman_cell": jn.Elman(H),
}
"""Every site free."""
PRESETS: dict[str, Any] = {
    "lstm": jn.lstm(H),
    "ln_lstm": jn.ln_lstm(H),
    "rms_lstm": jn.rms_lstm(H),
    "bn_lstm": jn.bn_lstm(H, max_steps=2),
    "gru": jn.gru(H),
    "ln_gru": jn.ln_gru(H),
    "rms_gru": jn.rms_gru(H),
    "elman": jn.elman(H),
    "ln_rnn": jn.ln_rnn(H),
}
WIRINGS: dict[str, Any] = {
    "kiros_ln_lstm": jn.zoo.kiros_ln_lstm(H),
    "tfa_ln_lstm": jn.zoo.tfa_ln_lstm(H),
    "sonnet_ln_lstm": jn.zoo.sonnet_ln_lstm(H),
    "sketch_rnn_ln_lstm": jn.zoo.sketch_rnn_ln_lstm(H),
    "praxis_ln_lstm": jn.zoo.praxis_ln_lstm(H),
    "contrib_ln_lstm": jn.zoo.contrib_ln_lstm(H),
    "draw_ln_lstm": jn.zoo.draw_ln_lstm(H),
    "dreamer_gru": jn.zoo.dreamer_gru(H),
    "dreamer_v3_gru": jn.zoo.dreamer_v3_gru(H),
}
"""Those of other papers and libraries that docs/ln_lstm.md sets side by side."""
ALL = CELLS | PRESETS | WIRINGS
DRAW: dict[type, Callable[..., Diagram]] = {
    jn.LSTM: lstm.draw,
    jn.GRU: gru.draw,
    jn.Elman: elman.draw,
    jn.zoo.ConcatenatedGRU: gru.draw_concatenated,
}


def diagram(name: str, theme: Theme) -> Diagram:
    """The diagram of a cell or of a preset."""
    cell = ALL[name]
    return DRAW[type(cell)](cell, theme, preset=name not in CELLS)


def alt(name: str) -> str:
    """What the picture shows, in words."""
    cell = ALL[name]
    states = " and ".join(cell.carry_type._fields)
    kind = type(cell).__name__
    if name in CELLS:
        sites = [site for site in jn.CellNorms._fields if site in diagram(name, LIGHT).sites]
        flow = f"from x and {states} to the new {states}"
        return f"The step of {_a(kind)} as a diagram, {flow}, with the sites {_list(sites)}."
    held = [f"{type(norm).__name__} at {site}" for site, norm in cell.sites._asdict().items() if norm != jn.Identity()]
    words = _list(held) if held else "no site has a normalizer"
    if isinstance(cell, jn.zoo.ConcatenatedGRU):
        words += ", which acts on x and h together before the product with the one kernel of both"
    return f"The diagram of {_a(kind)} as {name} fills it: {words}."


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "AEIL" else f"a {kind}"


def _list(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
