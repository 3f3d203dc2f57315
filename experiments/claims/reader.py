"""The attentive reader: layer normalization reads better and sooner than the LSTM and recurrent batch normalization.

Claim: the LN-LSTM's validation error lies below that of the LSTM, the BN-LSTM and the reader with batch normalization
everywhere, all along; gain 1 is significantly better than gain 0.1, which batch normalization needs.
Source: Ba, Kiros, Hinton, Layer Normalization, 2016, section 6.2 and figure 2 (curves only); the reader with batch
normalization: Cooijmans et al., Recurrent Batch Normalization, 2017, section 5.4.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jaxnorm as jn
from experiments.data.babi import Stories, babi
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.harness.records import Run
from experiments.models import attentive_reader
from experiments.models.attentive_reader import Reader

# Every arm begins with forget bias 1 and the same kernels, so that only the normalizers tell them apart.
START: dict[str, Any] = {
    "forget_bias": 1.0,
    "kernel_init": jn.initializers.lecun_normal,
    "recurrent_init": jn.initializers.orthogonal,
}
LAYER = jn.LayerNorm()
BATCH = jn.BatchNorm(momentum=0.9, debias=True, scale_init=0.1)
GATES = jn.BatchNorm(momentum=0.9, debias=True, scale_init=0.1, use_bias=False)  # the cell has a bias
BESIDE_INPUT = jn.CellNorms(recurrent=GATES, cell=BATCH)

ARMS: dict[str, tuple[Callable[[int, int], jn.Cell], dict[str, Any]]] = {
    "LSTM": (lambda size, steps: jn.lstm(size, **START), {}),
    "LN-LSTM": (lambda size, steps: jn.ln_lstm(size, **START), {}),
    "LN-LSTM, gain 0.1": (lambda size, steps: jn.ln_lstm(size, scale=0.1, **START), {}),
    "BN-LSTM": (lambda size, steps: jn.bn_lstm(size, max_steps=steps, **START), {}),
    "BN-everywhere": (  # the paper's BN-e**; records are files, whose names hold no asterisk
        lambda size, steps: jn.bn_lstm(size, max_steps=steps, norm=BESIDE_INPUT, **START),
        {"inputs": GATES, "terms": BATCH},
    ),
    # Added after the first five had been run, to see which norm delays the LN-LSTM; only described.
    "LN-LSTM, cell not normalized": (
        lambda size, steps: jn.LSTM(size, norm=jn.CellNorms(input=LAYER, recurrent=LAYER), **START),
        {},
    ),
    "LN-LSTM (Ha)": (lambda size, steps: jn.zoo.sketch_rnn_ln_lstm(size, **START), {}),
}
CHANCE = 5 / 6  # the error of guessing one of six places


def build(arm: Any, scale: Scale, stories: Stories) -> Trial:
    """A reader with one of the cells; running statistics have a row for each word."""
    cell, norms = arm
    steps = (part.ids.shape[1] for part in stories.train[:2])
    return attentive_reader.trial(Reader(*(cell(scale.hidden, count) for count in steps), **norms), scale, stories)


def pictures(runs: Sequence[Run], artifacts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Where each arm looks, for three questions of the validation data."""
    from matplotlib import pyplot as plt

    if not artifacts:
        return {}
    some = next(iter(artifacts.values()))
    count = len(some["question"])
    figure, panels = plt.subplots(
        count, 1, figsize=(13, 1.2 * count + 0.3 * count * len(artifacts)), layout="constrained"
    )
    for k, panel in enumerate(panels):
        length = int(some["lengths"][k])
        rows = [seen["alignment"][k, :length] for seen in artifacts.values()]
        panel.imshow(rows, aspect="auto", cmap="Blues", vmin=0.0, vmax=1.0)
        panel.set_xticks(range(length), some["story"][k, :length], rotation=90, fontsize=7)
        panel.set_yticks(range(len(rows)), [f"{arm}: {seen['said'][k]}" for arm, seen in artifacts.items()], fontsize=7)
        panel.set_title(f"{some['question'][k]} ({some['answer'][k]})", fontsize=9, loc="left")
    figure.suptitle("Attention on the words of a story, and the answer of each arm", fontsize=10)
    return {"alignments.png": figure}


CLAIM = Claim(
    number=2,
    name="reader",
    claim="An attentive reader with LN-LSTM errs less, and sooner, than with the LSTM",
    source="Ba, Kiros, Hinton 2016, section 6.2, figure 2; Cooijmans et al. 2017, section 5.4",
    published="curves; validation error of batch normalization on CNN: 50.3 (LSTM), 49.5 (BN-LSTM), 43.9 (BN-e**)",
    arms=ARMS,
    rates=(0.001, 0.002, 0.004, 0.008),
    seeds=5,
    seeds_by_arm={"LN-LSTM, cell not normalized": 3, "LN-LSTM (Ha)": 3},
    smoke_arms=("LSTM", "LN-LSTM"),
    contrast=Contrast(
        measure=measures.area("valid_error", CHANCE),
        unit="mean validation error over training",
        arm="LN-LSTM",
        baseline="LSTM",
        margin=0.01,
    ),
    scales={
        "small": Scale(steps=3000, evaluations=30, batch=32, hidden=64, features=64, validation=1000, population=32),
        "paper": Scale(
            steps=200_000, evaluations=100, batch=64, hidden=240, features=240, validation=2000, population=280
        ),
        "smoke": Scale(steps=3, evaluations=1, batch=8, hidden=4, features=4, validation=14, population=2),
    },
    smaller="bAbI tasks 1 and 4 instead of the CNN corpus; 64 features instead of 240; batch 32 instead of 64; "
    "both directions in every arm (the paper's LN-LSTM reads forward only); statistics of real steps "
    "only; initial state zero instead of learned; forget bias 1 in every arm",
    load=lambda folder, scale: babi(folder),
    build=build,
    curve="valid_error",
    curve_label="validation error",
    pictures=pictures,
    also={
        "test error": measures.tested("error", CHANCE),
        "validation error, end": measures.last("valid_error", CHANCE),
    },
    undecidable="The sign: with each of five seeds the LN-LSTM is later, by 0.03 to 0.12, but the adjusted interval "
    "just reaches zero; six seeds would tell. All arms that normalize layers or nothing end without an error, but one "
    "of five with gain 0.1. Whether the arms come in the same order on long news stories, whose answers are among "
    "many names.",
    looked_at="Of the paper's three statements one is seen: gain 1 reads better than gain 0.1. Batch normalization "
    "everywhere reads better than in the LSTM alone, as in its own paper. But its curves are those of running "
    "statistics, which lag behind at the rates that are best here: with population statistics taken anew at the end "
    "the BN-LSTM errs 7 % on the test, not 57 %. That the LN-LSTM is later than the LSTM is not a matter of its rate, "
    "which lies inside of what was tried, nor of clipped gradients: their norm is 2, the bound 10. Two arms, added to "
    "find out, tell where it comes from: without the normalizer of the cell it is as late (0.16), but with a "
    "normalizer for the sum of each gate, as Ha et al. place them, it is as early as the LSTM (0.05 beside 0.06), "
    "which needs no help on these short tasks: it has learned both after 600 steps.",
)
