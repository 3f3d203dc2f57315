"""Other statistics than the standard deviation: L1 batch normalization trains as well as the usual one.

Claim: L2, L1 and Top-10 end alike, L-infinity a little behind; range batch normalization is as good as the usual one;
a wrong constant in front of L1 hurts.
Source: Hoffer, Banner, Golan, Soudry, Norm Matters, 2018: ImageNet, ResNet-18: error 34 % (L2, L1, Top-10), 36 %
(L-infinity), 36 % and 35 % (constant / 4, x 4); Banner, Hubara, Hoffer, Soudry 2018 for the range.
"""

from typing import Any

import jaxnorm as jn
from experiments.data.images import Images, cifar10
from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Scale, Trial
from experiments.models import image_classifier
from experiments.models.convnets import ResNet
from experiments.models.image_classifier import sgd
from experiments.models.normalizers import WrongConstant

MOMENTUM = 0.9  # of the running statistics, in all arms
L1 = jn.zoo.LpBatchNorm(momentum=MOMENTUM)
ARMS: dict[str, jn.Normalizer] = {
    "L2": jn.BatchNorm(momentum=MOMENTUM),
    "L1": L1,
    "L-infinity": jn.zoo.LpBatchNorm(deviation="l_infinity", momentum=MOMENTUM),
    "Top-10": jn.zoo.LpBatchNorm(deviation="top_k", k=10, momentum=MOMENTUM),
    "range": jn.zoo.RangeBatchNorm(constant="code", chunks=16, momentum=MOMENTUM),
    "L1, constant : 4": WrongConstant(L1, 1 / 4),
    "L1, constant x 4": WrongConstant(L1, 4.0),
}
CHANCE = 0.9  # the error of guessing
SIZES = {  # of the residual network
    "small": Scale(steps=1300, evaluations=13, batch=64, width=16, blocks=1, stride=2, schedule="cosine"),
    "paper": Scale(
        steps=39_000, evaluations=100, batch=256, width=16, blocks=9, stride=1, schedule="at 81, 122, 164 of 200"
    ),
    "smoke": Scale(steps=4, evaluations=2, batch=16, width=2, blocks=1, stride=2, schedule="cosine"),
}


def build(arm: Any, scale: Scale, data: Images) -> Trial:
    """A residual network with one of the normalizers after each convolution."""
    model = ResNet(scale.width, arm, blocks=scale.blocks, stride=scale.stride)
    return image_classifier.trial(model, scale, data, lambda rate: sgd(rate, 1e-4, clip=5.0))


CLAIM = Claim(
    number=11,
    name="norm_statistics",
    claim="L1 batch normalization is as good as L2",
    source="Hoffer, Banner, Golan, Soudry 2018, figures of ImageNet; Banner et al. 2018",
    published="ResNet-18 on ImageNet, validation error 34 % (L2, L1, Top-10), 36 % (L-infinity), 36 % and 35 % (L1 "
    "with its constant / 4, x 4); range as L2 in ResNet-50",
    arms=ARMS,
    rates=(0.04, 0.1, 0.25),
    seeds=5,
    smoke_arms=("L2", "L1", "L1, constant x 4"),
    seeds_by_arm={"L1, constant : 4": 3, "L1, constant x 4": 3},
    contrast=Contrast(
        measure=measures.tested("error", CHANCE),
        unit="test error",
        arm="L1",
        baseline="L2",
        margin=0.01,
        claimed="equal",
    ),
    scales=SIZES,
    smaller="7 convolutions instead of 17 to 55, the first with stride 2; 12 epochs of 7,000 images of CIFAR-10 "
    "instead of 90 of ImageNet; a cosine instead of three drops of the rate; three rates for each arm",
    load=lambda folder, scale: cifar10(folder),
    build=build,
    curve="valid_error",
    curve_label="validation error",
    also={"area of validation error": measures.area("valid_error", CHANCE)},
    undecidable="Whether L1 equals L2 within a point: with each of five seeds it errs less, by 0.3 to 3.3 points, and "
    "the adjusted interval is 3.0 wide to each side; nine seeds would tell the sign. The other arms come as in the "
    "papers: L-infinity errs more than L2 (43.9 %), Top-10 and the range do not (41.7, 41.4), and a wrong constant "
    "costs L1 one to three points. What separates statistics on ImageNet.",
)
