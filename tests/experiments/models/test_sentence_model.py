"""The model of sentences against NumPy in double precision, line by line, with random numbers in every weight."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

import jaxnorm as jn
from experiments.claims import glinskis
from experiments.data.text import Text
from experiments.harness.claim import Scale
from experiments.models import sentence_model

SIZES = Scale(steps=2, evaluations=1, batch=2, hidden=3, longest=6, lines=2)
LINES = "abc\nb\ncab\nbc\nabcab\nca\nlonger than six\n"
SYMBOLS = tuple(sorted(set(LINES)))
IDS = np.array([SYMBOLS.index(c) for c in LINES], np.int32)
TEXT = Text("made", SYMBOLS, IDS, IDS, IDS)


@pytest.fixture(autouse=True)
def _as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def random(tree):
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.7, leaf.dtype), tree)


def nats(params, line):
    """Of all characters of one line, after an end."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    cell, total = p.cells[0], 0.0
    c = h = np.zeros(3)
    for before, after in zip("\n" + line, line, strict=False):
        v = cell.kernel[SYMBOLS.index(before)] + np.einsum("k,kgh->gh", h, cell.recurrent) + cell.bias.reshape(4, 3)
        i, f, g, o = v
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        logits = h @ p.kernel + p.bias
        total -= logits[SYMBOLS.index(after)] - np.log(np.exp(logits).sum())
    return total


def test_loss_of_the_real_characters():
    trial = sentence_model.trial(sentence_model.Arm(lambda h, t: jn.lstm(h)), SIZES, TEXT)
    params, memory = random(trial.init(jax.random.key(0))[0]), trial.init(jax.random.key(0))[1]
    seen = set()
    for step in range(3):  # an epoch
        ids, lengths = trial.batch(0, step)
        lines = ["".join(SYMBOLS[k] for k in row[1 : length + 1]) for row, length in zip(ids, lengths, strict=True)]
        seen |= set(lines)
        expected = sum(nats(params, line) for line in lines) / sum(map(len, lines))
        assert float(trial.loss(params, memory, (ids, jnp.asarray(lengths)), None)[0]) == pytest.approx(
            expected, rel=1e-4
        )
    assert seen == {line + "\n" for line in LINES.split("\n") if 1 <= len(line) <= 5}


def test_moving_averages_enter_training_and_stay_for_inference():
    trial = sentence_model.trial(glinskis.ARMS["momentum, per step"], SIZES, TEXT)
    params, memory = trial.init(jax.random.key(0))
    batch = trial.batch(0, 0)
    loss, told = trial.loss(params, memory, batch, None)
    other = jax.tree.map(lambda leaf: leaf + 1.0, memory)
    assert float(trial.loss(params, other, batch, None)[0]) != float(loss)
    after, before = told.memory[0].summed, memory[0].summed
    kernel = np.asarray(params.cells[0].kernel).reshape(len(SYMBOLS), -1)
    first = kernel[batch[0][:, 0]]  # the state is zero before the first step
    np.testing.assert_allclose(after.mean[0], 0.9 * before.mean[0] + 0.1 * first.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after.var[0], 0.9 * before.var[0] + 0.1 * first.var(0), rtol=1e-5)
    figures = trial.test(params, told.memory)
    assert 0.0 <= float(figures["test_ended"]) <= 1.0
    assert np.isfinite(float(figures["test_nats"]))


def test_folded_lines_are_twice_as_long_and_half_as_many():
    names = ("hidden, per step", "hidden, per step, folded")
    plain, folded = (sentence_model.trial(glinskis.ARMS[name], SIZES, TEXT) for name in names)
    assert (plain.steps, folded.steps) == (2, 1)
    assert plain.batch(0, 0)[0].shape == (2, 7)
    ids, lengths = folded.batch(0, 0)
    assert ids.shape == (2, 9)
    assert lengths.tolist() == [7, 8]
