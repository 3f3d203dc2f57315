"""Skip-thought vectors: with layer normalization training is faster, and what the vectors are good for is better.

Claim: with LN-GRU as encoder and decoders SICK's r .842 to .854, MR 77.3 to 79.5, CR 81.8 to 82.6, SUBJ 92.6 to 93.4,
MPQA 87.9 to 89.0 after as many steps.
Source: Ba, Kiros, Hinton, Layer Normalization, 2016, section 6.3, figure 3 and table 3; the model: Kiros et al., 2015.
"""

import math
from collections.abc import Callable
from typing import Any

import jaxnorm as jn
from experiments.data.novels import LABELED, Novels, novels
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.models import skip_thought

ARMS: dict[str, Callable[[int], jn.Cell]] = {
    "GRU": lambda size: jn.gru(size, update_gate="renew"),  # as in the LN-GRU
    "LN-GRU": jn.ln_gru,
}
CHANCE = math.log(4000)  # nats, where every word is as likely as any


def build(arm: Any, scale: Scale, data: Novels) -> Trial:
    """Encoder and decoders with one of the cells."""
    return skip_thought.trial(arm(scale.hidden), scale, data)


CLAIM = Claim(
    number=3,
    name="skip_thought",
    claim="Layer normalization speeds up and improves skip-thought vectors",
    source="Ba, Kiros, Hinton 2016, section 6.3, figure 3, table 3; Kiros et al. 2015",
    published="after a million steps: SICK r .842 to .854, MR 77.3 to 79.5, CR 81.8 to 82.6, SUBJ 92.6 to 93.4, "
    "MPQA 87.9 to 89.0",
    arms=ARMS,
    rates=(0.0005, 0.001, 0.002, 0.004),
    seeds=5,
    contrast=Contrast(
        measure=measures.tested("next_nats", CHANCE),
        unit="test nats per word of the next sentence, at equal steps",
        arm="LN-GRU",
        baseline="GRU",
        margin=0.01,
    ),
    scales={
        "small": Scale(
            steps=3300, evaluations=20, batch=32, hidden=64, features=64, words=4000, validation=640, probed=512
        ),
        "paper": Scale(
            steps=1_000_000,
            evaluations=100,
            batch=64,
            hidden=2400,
            features=620,
            words=20_000,
            validation=1600,
            probed=512,
        ),
        "smoke": Scale(steps=2, evaluations=1, batch=4, hidden=4, features=4, words=50, validation=8, probed=100),
    },
    smaller="33,000 triples of sentences from LAMBADA instead of 74 million sentences of BookCorpus; 20 words per "
    "sentence instead of 30; 64 features instead of 2,400; 4,000 words instead of 20,000; probes by "
    "five-fold cross-validation; ridge regression on SICK",
    load=lambda folder, scale: novels(folder, scale.words),
    build=build,
    curve="valid_next_nats",
    curve_label="validation, nats per word of the next sentence",
    also={
        "area of validation nats": measures.area("valid_next_nats", CHANCE),
        **{f"{name}, accuracy": measures.given(f"test_{name}", 0.5) for name in LABELED},
        "SICK, r": measures.given("test_SICK", 0.0),
    },
    undecidable="What vectors are worth after a million steps on novels: three epochs of a small corpus teach mostly "
    "how frequent words are. On CR and MPQA both arms classify little better than by the majority (0.64, 0.69). The "
    "best rate of the LN-GRU is the highest that was tried, which can only favor the GRU.",
)
