"""A run is evaluated as often as its scale says, at even distances, the last time after the last step."""

import itertools
from types import SimpleNamespace

import jax.numpy as jnp
import optax
import pytest

from experiments.harness.checkpoints import Checkpoints
from experiments.harness.claim import Loss, Trial
from experiments.harness.training import Trainer


@pytest.mark.parametrize(
    ("steps", "evaluations", "expected"),
    [(6, 3, [0, 2, 4, 6]), (7, 3, [0, 3, 5, 7]), (11, 4, [0, 3, 6, 9, 11]), (2, 5, [0, 1, 2]), (5, 1, [0, 5])],
)
def test_points_of_a_curve(tmp_path, steps, evaluations, expected):
    trial = Trial(
        init=lambda key: (jnp.zeros(()), ()),
        batch=lambda seed, step: jnp.float32(step),
        loss=lambda params, memory, batch, key: (batch + 0 * params, Loss((), {})),
        evaluate=lambda params, memory: {},
        optimizer=optax.sgd,
    )
    trainer = Trainer(trial, SimpleNamespace(evaluations=evaluations))
    outcome = trainer.run(
        rate=1.0, seed=0, steps=steps, final=False, checkpoints=Checkpoints(tmp_path), told=lambda step: None
    )
    assert outcome.curve["step"] == expected
    spans = itertools.pairwise(expected)
    assert outcome.curve["train_loss"][1:] == [(begin + end - 1) / 2 for begin, end in spans]
