"""Learning rates: normalization widens the range of rates that work.

Claim: normalized networks bear rates at which others diverge, and so their choice matters less.
Source: Ioffe, Szegedy, Batch Normalization, 2015, section 3.3; Laurent et al. 2015, whose recurrent batch normalization
survived rates at which the plain LSTM diverged. No figure is published for recurrent networks.
"""

from collections.abc import Callable
from typing import Any

import jaxnorm as jn
from experiments.data.text import Text, characters
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.models import language_model

# Every LSTM begins with forget bias 1 and every arm with orthogonal recurrent kernels: the normalizer tells them apart.
ARMS: dict[str, Callable[[int, int], jn.Cell]] = {
    "LSTM": lambda h, t: jn.lstm(h, forget_bias=1.0),
    "LN-LSTM": lambda h, t: jn.ln_lstm(h, forget_bias=1.0),
    "RMS-LSTM": lambda h, t: jn.rms_lstm(h, forget_bias=1.0),
    "BN-LSTM": lambda h, t: jn.bn_lstm(h, max_steps=t, forget_bias=1.0),
    "GRU": lambda h, t: jn.gru(h),
    "LN-GRU": lambda h, t: jn.ln_gru(h),
}
CHANCE = 5.0  # bits, where a run has diverged


def build(arm: Any, scale: Scale, text: Text) -> Trial:
    """A language model with one of the cells."""
    return language_model.trial(arm(scale.hidden, scale.window), scale, text)


CLAIM = Claim(
    number=17,
    name="learning_rates",
    claim="Layer normalization widens the range of learning rates that work for an LSTM",
    source="Ioffe, Szegedy 2015, section 3.3; Laurent et al. 2015",
    published="in words: higher rates, less care in their choice; no figure for recurrent networks",
    arms=ARMS,
    rates=(0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256),
    every_rate=True,
    seeds=5,
    seeds_by_arm={"RMS-LSTM": 2, "BN-LSTM": 2, "GRU": 2, "LN-GRU": 2},
    contrast=Contrast(
        measure=measures.width("valid_bits", 0.1, CHANCE),
        unit="octaves of learning rates that end within 0.1 bit of the best",
        arm="LN-LSTM",
        baseline="LSTM",
        margin=0.25,
        better="higher",
    ),
    scales={
        "small": Scale(steps=600, evaluations=6, batch=32, hidden=128, window=100, windows=10),
        "paper": Scale(steps=10_000, evaluations=20, batch=64, hidden=512, window=100, windows=100),
        "smoke": Scale(steps=2, evaluations=1, batch=4, hidden=8, window=8, windows=2),
    },
    smaller="the papers have no such experiment; 600 steps, which favor high rates; two seeds for the arms that are "
    "only described",
    load=lambda folder, scale: characters(folder),
    build=build,
    curve="valid_bits",
    curve_label="validation, bits per character",
    also={"validation bits, mean over rates": lambda run: measures.last("valid_bits", CHANCE)([run])},
    undecidable="Whether the ranges differ as much after long training, or with a schedule of rates.",
)
