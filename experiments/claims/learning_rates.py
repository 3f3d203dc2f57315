"""Learning rates: normalization widens the range of rates that work.

Claim: normalized networks bear rates at which others diverge, and so their choice matters less.
Source: Ioffe, Szegedy, Batch Normalization, 2015, section 3.3; Laurent et al. 2015, whose recurrent batch normalization
survived rates at which the plain LSTM diverged. No figure is published for recurrent networks.
"""

from collections.abc import Callable

import jaxnorm as jn
from experiments.claims.character_ptb import ARMS as LSTMS
from experiments.claims.character_ptb import CHANCE, build
from experiments.data.text import characters
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale

ARMS: dict[str, Callable[[int, int], jn.Cell]] = {
    **{name: LSTMS[name] for name in ("LSTM", "LN-LSTM", "RMS-LSTM", "BN-LSTM")},
    "GRU": lambda h, t: jn.gru(h),
    "LN-GRU": lambda h, t: jn.ln_gru(h),
}


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
        unit="octaves of learning rates that end within 0.1 bit of its own best",
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
    smaller="the papers have no such experiment; 600 steps, which favor high rates; validation on 32,000 characters; "
    "Penn Treebank alone; two seeds for the arms that are only described",
    load=lambda folder, scale: characters(folder),
    build=build,
    curve="valid_bits",
    curve_label="validation, bits per character",
    also={"validation bits, mean over rates": measures.last("valid_bits", CHANCE)},
    undecidable="How wide the ranges are downwards: at the lowest rate, 0.002, all seeds of the LN-LSTM and RMS-LSTM "
    "are still within 0.1 bit of their best, so their widths are lower bounds, and the difference is one too. Whether "
    "the ranges differ as much after long training, or with a schedule of rates.",
)
