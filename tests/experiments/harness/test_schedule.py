"""The rate falls with the share of the run that is done, whatever the length of the run."""

from types import SimpleNamespace

import jax.numpy as jnp
import optax
import pytest

from experiments.harness.checkpoints import Checkpoints
from experiments.harness.claim import Loss, Trial
from experiments.harness.training import Trainer
from experiments.models.image_classifier import SCHEDULES


@pytest.mark.parametrize(("steps", "expected"), [(4, 1.111), (8, 2.222)])
def test_rate_times_schedule(tmp_path, steps, expected):
    trial = Trial(
        init=lambda key: (jnp.zeros(()), ()),
        batch=lambda seed, step: jnp.zeros(()),
        loss=lambda params, memory, batch, key: (-params, Loss((), {})),
        evaluate=lambda params, memory: {"sum": params},
        optimizer=optax.sgd,
        schedule=SCHEDULES["at each quarter"],
    )
    trainer = Trainer(trial, SimpleNamespace(evaluations=1))
    outcome = trainer.run(
        rate=3.0, seed=0, steps=steps, final=False, checkpoints=Checkpoints(tmp_path), told=lambda step: None
    )
    assert outcome.curve["sum"][-1] == pytest.approx(3 * expected)


def test_schedules():
    found = {
        name: [round(schedule(share), 4) for share in (0.0, 0.3, 0.5, 0.7, 0.9)] for name, schedule in SCHEDULES.items()
    }
    assert found == {
        "cosine": [1.0, 0.7939, 0.5, 0.2061, 0.0245],
        "at 81, 122, 164 of 200": [1.0, 1.0, 0.1, 0.01, 0.001],
        "at each quarter": [1.0, 0.1, 0.01, 0.01, 0.001],
    }
