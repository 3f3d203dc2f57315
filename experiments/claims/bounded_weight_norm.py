"""Bounded weight normalization brings weight normalization up to batch normalization; it helps LSTMs, too.

Claim: ImageNet, ResNet-50, validation error 26.0 (BN), 28.2 (bounded), 33 (weight normalization).
Source: Hoffer, Banner, Golan, Soudry, Norm Matters, 2018, section on bounded weight normalization (weight normalization
after Gitman, Ginsburg 2017; LSTMs on WMT14 de-en, numbers not at hand).
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jaxnorm as jn
from experiments.claims.norm_statistics import CHANCE, MOMENTUM, SIZES
from experiments.data.images import Images, cifar10
from experiments.data.text import Text, characters
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.harness.records import Run
from experiments.models import image_classifier, language_model
from experiments.models.convnets import ResNet
from experiments.models.image_classifier import head, sgd

BOUNDED = jn.weight_norms.BoundedWeightNorm()
MEAN_ONLY = jn.zoo.MeanOnlyBatchNorm(momentum=MOMENTUM)


class ConvNet(NamedTuple):
    """What normalizes the residual network."""

    norm: jn.Normalizer
    weights: jn.WeightNormalizer | None = None


# Only the bound tells WN and BWN apart. LSTMs begin with forget bias 1, as in the claim on character PTB.
ARMS: dict[str, ConvNet | Callable[[int], jn.Cell]] = {
    "BN": ConvNet(jn.BatchNorm(momentum=MOMENTUM)),
    "WN": ConvNet(MEAN_ONLY, jn.WeightNorm()),
    "BWN": ConvNet(MEAN_ONLY, BOUNDED),
    "LSTM": lambda h: jn.lstm(h, forget_bias=1.0),
    "WN-LSTM": lambda h: jn.zoo.weight_norm_lstm(h, forget_bias=1.0),
    "BWN-LSTM": lambda h: jn.zoo.bounded_weight_norm_lstm(h, forget_bias=1.0),
}
LSTMS = ("LSTM", "WN-LSTM", "BWN-LSTM")
CHANCE_OF_LSTMS = 5.0  # bits


class Data(NamedTuple):
    """Images for the residual networks, a text for the LSTMs."""

    source: str
    images: Images
    text: Text


def load(folder: Path | None, scale: Scale) -> Data:
    """Both data sets."""
    images, text = cifar10(folder), characters(folder)
    return Data(f"{images.source}; {text.source}", images, text)


def build(arm: Any, scale: Scale, data: Data) -> Trial:
    """A residual network, or a language model; both call their figure ``figure``."""
    if isinstance(arm, ConvNet):
        model = ResNet(scale.width, arm.norm, arm.weights, scale.blocks, scale.stride)
        trial = image_classifier.trial(model, scale, data.images, lambda rate: sgd(rate, 1e-4, mask=head, clip=5.0))
        return _with_figure(trial, "error")
    sizes = Scale(steps=scale.text_steps, evaluations=scale.evaluations, batch=scale.text_batch,
                  window=scale.window, windows=scale.windows)  # fmt: skip
    trial = language_model.trial(arm(scale.hidden), sizes, data.text)
    return dataclasses.replace(_with_figure(trial, "bits"), steps=scale.text_steps)


def _with_figure(trial: Trial, name: str) -> Trial:
    def evaluate(params: Any, memory: Any) -> dict[str, Any]:
        found = trial.evaluate(params, memory)
        return {**found, "valid_figure": found[f"valid_{name}"]}

    def test(params: Any, memory: Any) -> dict[str, Any]:
        found = trial.test(params, memory) if trial.test is not None else {}
        return {**found, "test_figure": found[f"test_{name}"]}

    return dataclasses.replace(trial, evaluate=evaluate, test=test)


def figure(runs: Sequence[Run]) -> float:
    """Test error of the residual networks, bits per character of the LSTMs."""
    return measures.tested("figure", CHANCE_OF_LSTMS if runs[0].arm in LSTMS else CHANCE)(runs)


def _sizes(scale: str, **of_lstms: int) -> Scale:
    return Scale(**vars(SIZES[scale]), **of_lstms)


CLAIM = Claim(
    number=14,
    name="bounded_weight_norm",
    claim="Bounded weight normalization classifies better than weight normalization",
    source="Hoffer, Banner, Golan, Soudry 2018, on bounded weight normalization",
    published="ResNet-50 on ImageNet, validation error 26.0 % (BN), 28.2 % (bounded), 33 % (weight normalization); "
    "translation with LSTMs (numbers not at hand)",
    arms=ARMS,
    rates={name: (0.0025, 0.005, 0.01, 0.02) if name in LSTMS else (0.016, 0.04, 0.1, 0.25) for name in ARMS},
    seeds=5,
    smoke_arms=("WN", "BWN", "BWN-LSTM"),
    seeds_by_arm=dict.fromkeys(LSTMS, 3),
    contrast=Contrast(
        measure=figure,
        unit="test error (LSTMs: test bits per character)",
        arm="BWN",
        baseline="WN",
        margin=0.01,
    ),
    scales={
        "small": _sizes("small", text_steps=2500, text_batch=32, hidden=128, window=100, windows=10),
        "paper": _sizes("paper", text_steps=40_000, text_batch=64, hidden=1000, window=100, windows=100),
        "smoke": _sizes("smoke", text_steps=4, text_batch=4, hidden=8, window=12, windows=2),
    },
    smaller="7 convolutions (the first with stride 2) and 12 epochs of 7,000 images of CIFAR-10 instead of "
    "ResNet-50 on ImageNet; a cosine instead of three drops of the rate; decay of only the last layer in "
    "all arms; mean-only batch normalization with WN as with BWN; LSTMs of 128 features on characters of "
    "PTB instead of translation",
    load=load,
    build=build,
    curve="valid_figure",
    axes={
        "validation error": [arm for arm in ARMS if arm not in LSTMS],
        "validation, bits per character": LSTMS,
    },
    also={"validation, end": measures.last("valid_figure", float("nan"))},
    undecidable="Whether the two are equal within a point: the interval is 2.4 points wide to each side; 14 seeds "
    "would tell. Both err less than BN here, by 1.3 points (WN) and 1.5 (BWN), so the gap that the bound closes in "
    "the paper does not open in a network of seven layers. Among the LSTMs (three seeds, only described) the bound "
    "costs 0.4 bits: kernels keep the norm that they begin with. Deep networks and translation are left to test.",
)
