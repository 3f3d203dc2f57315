"""The cells and presets of ours that are compared with ``ln_lstm``, for a number of hidden features and of steps."""

from collections.abc import Callable
from typing import Any

import jaxnorm as jn

RATE = 0.25
LN = jn.LayerNorm()


def _by_name(name: str) -> Callable[..., Any]:
    make = getattr(jn if name in jn.__all__ else jn.zoo, name)
    return lambda hidden, steps, dtype: make(hidden, dtype=dtype)


def _block_gru(hidden: int, steps: int, dtype: str) -> Any:
    return jn.zoo.dreamer_v3_block_gru(hidden, blocks=8 if hidden % 8 == 0 else 2, dtype=dtype)


PRESETS: dict[str, Callable[[int, int, str], Any]] = {
    **{
        name: _by_name(name)
        for name in (
            "ln_lstm",
            "lstm",
            "rms_lstm",
            "kiros_ln_lstm",
            "haste_ln_lstm",
            "tfa_ln_lstm",
            "fastrnns_ln_lstm",
            "draw_ln_lstm",
            "contrib_ln_lstm",
            "sketch_rnn_ln_lstm",
            "sonnet_ln_lstm",
            "praxis_ln_lstm",
            "axlearn_ln_lstm",
            "sonnet_bn_lstm",
            "weight_norm_lstm",
            "norm_prop_lstm",
            "assorted_time_lstm",
            "gru",
            "ln_gru",
            "rms_gru",
            "kiros_ln_gru",
            "haste_ln_gru",
            "dreamer_gru",
            "dreamer_v3_gru",
            "ligru",
            "ln_rnn",
        )
    },
    "dreamer_v3_block_gru": _block_gru,
    "bn_lstm": lambda hidden, steps, dtype: jn.bn_lstm(hidden, max_steps=steps, dtype=dtype),
    "laurent_bn_lstm": lambda hidden, steps, dtype: jn.zoo.laurent_bn_lstm(hidden, max_steps=steps, dtype=dtype),
    "PeepholeLSTM": lambda hidden, steps, dtype: jn.zoo.PeepholeLSTM(hidden, norm=LN, dtype=dtype),
    "CoupledLSTM": lambda hidden, steps, dtype: jn.zoo.CoupledLSTM(hidden, norm=LN, dtype=dtype),
    "ProjectedLSTM": lambda hidden, steps, dtype: jn.zoo.ProjectedLSTM(2 * hidden, hidden, norm=LN, dtype=dtype),
    "ResetBeforeGRU": lambda hidden, steps, dtype: jn.zoo.ResetBeforeGRU(hidden, norm=LN, dtype=dtype),
    "MILSTM": lambda hidden, steps, dtype: jn.zoo.MILSTM(hidden, norm=LN, dtype=dtype),
    "MUT3": lambda hidden, steps, dtype: jn.zoo.MUT3(hidden, norm=LN, dtype=dtype),
    "IndRNN": lambda hidden, steps, dtype: jn.zoo.IndRNN(hidden, norm=LN, dtype=dtype),
    "MinGRU": lambda hidden, steps, dtype: jn.zoo.MinGRU(hidden, norm=LN, dtype=dtype),
    "MinLSTM": lambda hidden, steps, dtype: jn.zoo.MinLSTM(hidden, norm=LN, dtype=dtype),
    "SLSTM": lambda hidden, steps, dtype: jn.zoo.SLSTM(hidden, heads=4, norm=LN, dtype=dtype),
    "Zoneout": lambda hidden, steps, dtype: jn.Zoneout(jn.ln_lstm(hidden, dtype=dtype), rate=RATE, cell_rate=RATE),
    "RecurrentDropout": lambda hidden, steps, dtype: jn.RecurrentDropout(jn.ln_lstm(hidden, dtype=dtype), rate=RATE),
    "VariationalDropout": lambda hidden, steps, dtype: jn.VariationalDropout(
        jn.ln_lstm(hidden, dtype=dtype), rate=RATE, input_rate=RATE
    ),
    "DropConnect": lambda hidden, steps, dtype: jn.DropConnect(jn.ln_lstm(hidden, dtype=dtype), rate=RATE),
}
"""How each is made; LayerNorm at the sites of those that have no norm of their own."""

PARALLEL = "-parallel"
"""Cells with this at the end of their name run all steps at once."""
PRESETS |= {name + PARALLEL: PRESETS[name] for name in ("MinGRU", "MinLSTM")}
