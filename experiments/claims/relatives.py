"""The relatives: other cells beside LSTM and GRU, with the same number of parameters, each with and without layer norm.

Claim: multiplicative integration reads characters better than the LSTM; the others are shown beside it.
Source: Wu et al., On Multiplicative Integration with Recurrent Neural Networks, 2016, section 3; Srivastava, Greff,
Schmidhuber, Highway Networks, 2015; Zilly et al., Recurrent Highway Networks, 2016; Semeniuta, Severyn, Barth,
Recurrent Dropout without Memory Loss, 2016; Jozefowicz, Zaremba, Sutskever, An Empirical Exploration, 2015.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import jaxnorm as jn
from experiments.data.text import Text, characters
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.harness.records import Run
from experiments.models import language_model

LN = jn.LayerNorm()
CHANCE = 5.0  # bits, where a run has diverged


class Arm(NamedTuple):
    """A cell by its number of hidden features, and a highway layer below the readout."""

    cell: Callable[[int], jn.Cell]
    highway: jn.zoo.Highway | None = None


def dropped(cell: jn.Cell) -> jn.Cell:
    """With recurrent dropout without memory loss, at the paper's rate for masks of each step."""
    return jn.RecurrentDropout(cell, rate=0.25)


# Each cell, and after it the same with layer norm. Forget biases begin at 1; highway gates begin mostly closed, as in
# the papers.
ARMS: dict[str, Arm] = {
    "LSTM": Arm(lambda h: jn.lstm(h, forget_bias=1.0)),
    "LN-LSTM": Arm(lambda h: jn.ln_lstm(h, forget_bias=1.0)),
    "GRU": Arm(lambda h: jn.gru(h)),
    "LN-GRU": Arm(lambda h: jn.ln_gru(h)),
    "LSTM, highway": Arm(lambda h: jn.lstm(h, forget_bias=1.0), jn.zoo.Highway()),
    "LN-LSTM, LN highway": Arm(lambda h: jn.ln_lstm(h, forget_bias=1.0), jn.zoo.Highway(norm=LN)),
    "RHN": Arm(lambda h: jn.zoo.RecurrentHighway(h, 3)),
    "LN-RHN": Arm(lambda h: jn.zoo.RecurrentHighway(h, 3, norm=LN)),
    "MI-RNN": Arm(lambda h: jn.zoo.MIRNN(h)),
    "LN-MI-RNN": Arm(lambda h: jn.zoo.MIRNN(h, norm=LN)),
    "MI-LSTM": Arm(lambda h: jn.zoo.MILSTM(h, forget_bias=1.0)),
    "LN-MI-LSTM": Arm(lambda h: jn.zoo.MILSTM(h, forget_bias=1.0, norm=LN)),
    "MI-GRU": Arm(lambda h: jn.zoo.MIGRU(h)),
    "LN-MI-GRU": Arm(lambda h: jn.zoo.MIGRU(h, norm=LN)),
    "LSTM, recurrent dropout": Arm(lambda h: dropped(jn.lstm(h, forget_bias=1.0))),
    "LN-LSTM, recurrent dropout": Arm(lambda h: dropped(jn.ln_lstm(h, forget_bias=1.0))),
    "MUT1": Arm(lambda h: jn.zoo.MUT1(h, raw_input="projected")),
    "LN-MUT1": Arm(lambda h: jn.zoo.MUT1(h, raw_input="projected", norm=LN)),
    "MUT2": Arm(lambda h: jn.zoo.MUT2(h, raw_input="projected")),
    "LN-MUT2": Arm(lambda h: jn.zoo.MUT2(h, raw_input="projected", norm=LN)),
    "MUT3": Arm(lambda h: jn.zoo.MUT3(h)),
    "LN-MUT3": Arm(lambda h: jn.zoo.MUT3(h, norm=LN)),
}

ROWS = {  # of the picture, each beside the LSTM
    "gates": ("LSTM", "LN-LSTM", "GRU", "LN-GRU", "LSTM, recurrent dropout", "LN-LSTM, recurrent dropout"),
    "highways": ("LSTM", "LSTM, highway", "LN-LSTM, LN highway", "RHN", "LN-RHN"),
    "multiplicative integration": ("LSTM", "MI-RNN", "LN-MI-RNN", "MI-LSTM", "LN-MI-LSTM", "MI-GRU", "LN-MI-GRU"),
    "mutations": ("LSTM", "MUT1", "LN-MUT1", "MUT2", "LN-MUT2", "MUT3", "LN-MUT3"),
}


def hidden_features(arm: Arm, symbols: int, parameters: int) -> int:
    """The number of hidden features that comes nearest to a number of parameters."""
    tried = (4, 8, 16)  # vectors and square matrices: the number is a polynomial of second degree
    models = (language_model.Model((arm.cell(hidden),), symbols, highway=arm.highway) for hidden in tried)
    square, linear, constant = np.polyfit(tried, list(map(language_model.parameters, models)), 2)
    return int(np.rint((np.sqrt(linear**2 + 4 * square * (parameters - constant)) - linear) / (2 * square)))


def build(arm: Any, scale: Scale, text: Text) -> Trial:
    """A language model with one of the cells, as large as all others."""
    hidden = hidden_features(arm, len(text.symbols), scale.parameters)
    return language_model.trial(arm.cell(hidden), scale, text, highway=arm.highway)


def pictures(runs: Sequence[Run], artifacts: Any) -> dict[str, Any]:
    """Each cell with layer norm and without, on one scale."""
    from matplotlib import pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 4.6), layout="constrained")
    names = list(ARMS)
    for row, pair in enumerate(zip(names[::2], names[1::2], strict=True)):
        tests = [[run.test["test_bits"] for run in runs if run.arm == arm and run.test] for arm in pair]
        panel.plot([np.mean(bits) for bits in tests if bits], [row] * sum(map(bool, tests)), color="#bbbbbb", zorder=1)
        for bits, (fill, label) in zip(tests, (("white", "without"), ("#0072B2", "with layer norm")), strict=True):
            panel.scatter(bits, [row] * len(bits), s=28, facecolor=fill, edgecolor="#0072B2", zorder=2,
                          label=label if row == 0 else None)  # fmt: skip
    panel.set_yticks(range(len(names) // 2), names[::2])
    panel.invert_yaxis()
    panel.set_xlabel("test bits per character, a mark per seed")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
    return {"cells.png": figure}


CLAIM = Claim(
    number=15,
    name="relatives",
    claim="The MI-LSTM models characters better than an LSTM with as many parameters",
    source="Wu et al. 2016; Srivastava et al. 2015; Zilly et al. 2016; Semeniuta et al. 2016; Jozefowicz et al. 2015",
    published="text8 and enwik8: MI-LSTM 1.44 bits; word Penn Treebank: RHN 68.3 to 89.2 test perplexity by depth; "
    "character Penn Treebank: recurrent dropout 1.301; MUT: no common figure",
    arms=ARMS,
    rates=(0.004, 0.01, 0.025),
    seeds=5,
    smoke_arms=("LSTM", "MI-LSTM", "LN-RHN"),
    seeds_by_arm={arm: 2 for arm in ARMS if arm not in ("LSTM", "MI-LSTM")},
    contrast=Contrast(
        measure=measures.tested("bits", CHANCE),
        unit="test bits per character",
        arm="MI-LSTM",
        baseline="LSTM",
        margin=0.01,
    ),
    scales={
        "small": Scale(steps=1200, evaluations=12, batch=32, window=100, windows=10, parameters=65_000),
        "paper": Scale(steps=40_000, evaluations=50, batch=64, window=100, windows=100, parameters=4_000_000),
        "smoke": Scale(steps=2, evaluations=1, batch=2, window=4, windows=2, parameters=2500),
    },
    smaller="65,000 parameters and 0.8 epochs; three micro-steps in the RHN; inputs of MUT1 and MUT2 are projected; "
    "two seeds for the arms that are only described; validation on 32,000 characters, test on 128,000",
    load=lambda folder, scale: characters(folder),
    build=build,
    curve="valid_bits",
    curve_label="validation, bits per character",
    axes={f"validation bits: {kind}": arms for kind, arms in ROWS.items()},
    pictures=pictures,
    also={
        "validation, end": measures.given("valid_bits_at_end", CHANCE),
        "parameters": lambda runs: float(runs[0].parameters),
    },
    undecidable="The sign: the MI-LSTM is ahead with four of five seeds, by up to 0.06 bits, and behind with one, by "
    "0.01; 18 seeds would tell. What the cells are worth in long training, where dropout and depth help against "
    "overfitting: this training is shorter than an epoch.",
    looked_at="The MI-LSTM is ahead early, by 0.25 bits after 200 steps, and the LSTM makes up for most of it by the "
    "end; the paper trains larger networks for longer. The two have as many parameters, within 2 %, and the equations "
    "of all cells are tested against NumPy. What stands out is another thing, which is only described: each of the "
    "eleven cells reads better with layer normalization than without, ten of them with either seed, by 0.04 to 0.3 "
    "bits. The best of all is the simplest, a network without gates (LN-MI-RNN).",
)
