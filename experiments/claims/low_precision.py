"""Normalization in low precision: L1 and range batch normalization hold where L2 fails.

Claim: with all of the normalizer's arithmetic in half precision, L1 trains where L2 does not.
Source: Hoffer, Banner, Golan, Soudry, Norm Matters, 2018, section on low precision (numbers not at hand); Banner,
Hubara, Hoffer, Soudry 2018 for the range.
"""

from typing import Any

from experiments.claims.norm_statistics import CHANCE, SIZES
from experiments.data.images import Images, cifar10
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.models import image_classifier
from experiments.models.convnets import ResNet
from experiments.models.image_classifier import sgd
from experiments.models.rounded_norm import RoundedBatchNorm

# Of the formats of eight bits the one whose range holds a sum over a batch: two bits of mantissa, up to 57,344.
FORMATS = {"float16": "float16", "bfloat16": "bfloat16", "float8": "float8_e5m2"}
ARMS = {
    f"{name}, {form}": RoundedBatchNorm(deviation=deviation, dtype=dtype)  # type: ignore[arg-type]
    for form, dtype in FORMATS.items()
    for name, deviation in (("L2", "l2"), ("L1", "l1"), ("range", "range"))
}
LOSS_SCALE = 4096.0  # in all arms: without it most gradients are below the smallest number of float16


def build(arm: Any, scale: Scale, data: Images) -> Trial:
    """The residual network of the claim on norm statistics; all but the normalizers is float32."""
    model = ResNet(scale.width, arm, blocks=scale.blocks, stride=scale.stride)
    return image_classifier.trial(model, scale, data, lambda rate: sgd(rate, 1e-4, clip=5.0), loss_scale=LOSS_SCALE)


CLAIM = Claim(
    number=12,
    name="low_precision",
    claim="L1 batch normalization holds in half precision, where L2 fails",
    source="Hoffer, Banner, Golan, Soudry 2018, on low precision",
    published="L1 and L-infinity train in half precision, L2 does not; no numbers at hand",
    arms=ARMS,
    rates=(0.05, 0.15),
    seeds=3,
    smoke_arms=("L2, float16", "L1, float16", "range, float8"),
    contrast=Contrast(
        measure=measures.tested("error", CHANCE),
        unit="test error (a diverged run: chance)",
        arm="L1, float16",
        baseline="L2, float16",
        margin=0.01,
    ),
    scales={
        **SIZES,
        "small": Scale(**{**vars(SIZES["small"]), "steps": 650}),
        "smoke": Scale(**{**vars(SIZES["smoke"]), "blocks": 0}),  # one normalizer: all this rounding compiles slowly
    },
    smaller="7 convolutions; 6 epochs of 7,000 images of CIFAR-10 instead of 90 of ImageNet; two rates for each "
    "arm. Rounding is simulated after each operation of the normalizer, forward and backward, with sums "
    "in blocks; loss scale 4,096",
    load=lambda folder, scale: cifar10(folder),
    build=build,
    curve="valid_error",
    curve_label="validation error",
    undecidable="Whether L1 errs less than L2: it does with each of three seeds, but an interval of three seeds, "
    "adjusted for seventeen claims, is nine standard deviations wide to each side; five seeds would tell. Which of "
    "them fails depends on the rate: at 0.05 in float16 L2 stays at chance where L1 trains, at 0.017 both train. In "
    "float8 both fail, and only the range trains. What happens in longer training, with larger weights and batches, "
    "whose sums of squares overflow.",
)
