"""Runs that follow the norms of a run with weight decay, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.claims import weight_decay
from experiments.harness.claim import Loss, Trial
from experiments.harness.records import Run

DECAY, MOMENTUM, FIRST, LATER = 0.3, 0.9, 0.2, 0.02


def gradient(params, k):
    """Something that depends on the weights, for each of two steps."""
    return {name: np.cos((k + 2) * leaf) for name, leaf in params.items()}


def flat(params):
    return {"conv": params["Conv_0"]["kernel"], "kernel": params["head"]["kernel"], "bias": params["head"]["bias"]}


def nested(params):
    return {"Conv_0": {"kernel": params["conv"]}, "head": {"kernel": params["kernel"], "bias": params["bias"]}}


def lengths(kernel):
    return np.sqrt((kernel**2).sum((0, 1, 2)))


def oracle(start, follow):
    """Two steps of both runs, the second at a tenth of the rate."""
    own, decayed = dict(start), dict(start)
    speeds = [dict.fromkeys(start, 0.0) for _ in range(2)]
    for k, rate in enumerate((FIRST, LATER)):
        pulls = [gradient(own, k), gradient(decayed, k)]
        for name in start:
            speeds[1][name] = MOMENTUM * speeds[1][name] + pulls[1][name] + DECAY * decayed[name]
            last = 0.0 if name == "conv" else DECAY * own[name]
            speeds[0][name] = MOMENTUM * speeds[0][name] + pulls[0][name] + last
        decayed = {name: decayed[name] - rate * speeds[1][name] for name in start}
        target, now = lengths(decayed["conv"]), lengths(own["conv"])
        moved = {name: own[name] - rate * speeds[0][name] for name in start}
        if follow == "none, corrected":
            moved["conv"] = own["conv"] - rate * (now / target) ** 2 * speeds[0]["conv"]
        else:
            free = own["conv"] - FIRST * speeds[0]["conv"]
            moved["conv"] = free / lengths(free) * target * np.sqrt(FIRST / rate)
        own = moved
    return own, decayed


@pytest.mark.parametrize("arm", ["none, corrected", "norm schedule"])
def test_two_steps_of_a_pair(arm):
    rng = np.random.default_rng(0)
    start = {"conv": rng.normal(size=(2, 2, 3, 4)), "kernel": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)}
    params = jax.tree.map(jnp.float32, nested(start))

    def alone(params, memory, batch, key):
        value = sum(jnp.sum(jnp.sin((batch + 2) * leaf)) / (batch + 2) for leaf in jax.tree.leaves(params))
        return value, Loss(memory + 1, {"train_loss": value})

    trial = Trial(
        init=lambda key: (params, jnp.zeros(())),
        batch=lambda seed, step: step,
        loss=alone,
        evaluate=lambda params, memory: {"memory": memory},
        optimizer=lambda rate: weight_decay.sgd(rate, DECAY, mask=weight_decay.head),
    )
    pair = weight_decay._beside_decay(trial, weight_decay.ARMS[arm][1], DECAY)
    both, memory = pair.init(jax.random.key(0))
    state = pair.optimizer(jnp.float32(FIRST)).init(both)
    for k, rate in enumerate((FIRST, LATER)):
        gradients, told = jax.grad(pair.loss, has_aux=True)(both, memory, float(k), None)
        change, state = pair.optimizer(jnp.float32(rate)).update(gradients, state, both)
        both, memory = jax.tree.map(jnp.add, both, change), told.memory
    own, decayed = oracle(start, arm)
    for got, expected in ((both.own, own), (both.decayed, decayed)):
        for name, leaf in flat(got).items():
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert pair.evaluate(both, memory) == {"memory": 2.0}


def test_mean_of_the_logarithm_of_squared_norms_leaves_the_last_layer_out():
    kernel = np.random.default_rng(1).normal(size=(3, 3, 2, 4))
    params = {"Conv_0": {"kernel": jnp.float32(kernel)}, "head": {"kernel": jnp.ones((4, 5)), "bias": jnp.ones(5)}}
    expected = np.log((kernel**2).sum((0, 1, 2))).mean()
    np.testing.assert_allclose(weight_decay.log_square(params), expected, rtol=1e-5)


def run_of(arm, seed):
    curve = {
        "step": [0, 4, 8],
        "seconds": [0.0, 1.0, 2.0],
        "own_log_square": [0.0, 1.0, 2.0],
        "leader_log_square": [0.0, 0.5, None],
    }
    return Run(claim="weight_decay", arm=arm, scale="smoke", phase="final", rate=0.2, seed=seed, steps=8, curve=curve)


def test_effective_step_size_is_the_rate_over_the_squared_norm():
    got = weight_decay.step_sizes(run_of("decay", 0))
    np.testing.assert_allclose(got[:2], [0.2, 0.2 * 0.01 / np.exp(0.5)])  # two of three drops at half of the run
    assert np.isnan(got[2])
    got = weight_decay.step_sizes(run_of("norm schedule", 0))
    np.testing.assert_allclose(got[:2], [0.2, 0.2 / np.exp(0.5)])  # its norms grow in place of the rate


def test_picture_has_a_line_for_each_seed():
    runs = [run_of(arm, seed) for arm in weight_decay.ARMS for seed in range(2)]
    figure = weight_decay.pictures(runs, {})["step_sizes.png"]
    assert [len(panel.lines) for panel in figure.axes] == [8, 8]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        f"{arm} (0.2)" for arm in weight_decay.ARMS
    ]
    figure.canvas.draw()
