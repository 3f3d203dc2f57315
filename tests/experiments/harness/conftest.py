import dataclasses
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

from experiments.harness import measures
from experiments.harness.claim import Claim, Contrast, Loss, Scale, Trial


def line_trial(arm, scale, data):
    """Fits y = 3 x by least squares; an arm is a factor of its gradient."""

    def loss(params, memory, batch, key):
        error = params["slope"] * batch - 3.0 * batch
        return arm * jnp.mean(error**2), Loss({"seen": memory["seen"] + 1}, {"doubled": 2 * params["slope"]})

    return Trial(
        init=lambda key: ({"slope": jnp.zeros(())}, {"seen": jnp.zeros((), jnp.int32)}),
        batch=lambda seed, step: np.random.default_rng((seed, step)).normal(size=4).astype(np.float32),
        loss=loss,
        evaluate=lambda params, memory: {"valid_gap": jnp.abs(params["slope"] - 3.0), "seen": memory["seen"]},
        test=lambda params, memory: {"test_gap": jnp.abs(params["slope"] - 3.0)},
        artifacts=lambda params, memory: {"slope": params["slope"]},
        optimizer=optax.sgd,
    )


@pytest.fixture
def claim():
    return Claim(
        number=1,
        name="line",
        claim="twice the gradient is faster",
        source="nobody",
        published="nothing",
        arms={"once": 1.0, "twice": 2.0},
        rates=(0.01, 0.03, 0.1),
        seeds=3,
        contrast=Contrast(
            measure=measures.area("valid_gap", 3.0), unit="mean gap", arm="twice", baseline="once", margin=0.01
        ),
        scales={"small": Scale(steps=8, evaluations=4, batch=4)},
        smaller="all of it",
        load=lambda folder, scale: None,
        build=line_trial,
        curve="valid_gap",
    )


@pytest.fixture
def with_rates(claim):
    return lambda **changes: dataclasses.replace(claim, **changes)
