"""The language model against NumPy in double precision, with random numbers in every weight."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

import jaxnorm as jn
from experiments.claims import relatives
from experiments.data.text import Text
from experiments.harness.claim import Scale
from experiments.models import language_model

SIZES = Scale(steps=1, evaluations=1, batch=2, window=5, windows=2)
IDS = np.random.default_rng(0).integers(0, 6, 200).astype(np.int32)
TEXT = Text("made", tuple("abcdef"), IDS, IDS[:60], IDS[60:180])


@pytest.fixture(autouse=True)
def promotion():
    """Experiments are written as users write: NumPy's promotion is on."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def random(tree):
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) * 0.5, leaf.dtype), tree)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def oracle(params, ids, carry):
    """Bits per symbol: two LSTMs between embedded symbols and a highway layer, a loop over steps."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    state = [(np.asarray(c.c, np.float64), np.asarray(c.h, np.float64)) for c in carry]
    total = 0.0
    for t in range(len(ids) - 1):
        x = np.stack([p.embedding[k] for k in ids[t]])
        for layer, cell in enumerate(p.cells):
            c, h = state[layer]
            v = np.einsum("bi,igh->gbh", x, cell.kernel) + np.einsum("bk,kgh->gbh", h, cell.recurrent)
            i, f, g, o = v + cell.bias.reshape(4, 1, -1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(c)
            state[layer] = c, x
        wide, gate = np.einsum("bi,igh->gbh", x, p.highway.kernel) + p.highway.bias.reshape(2, 1, -1)
        y = np.tanh(wide) * sigmoid(gate) + x * (1 - sigmoid(gate))
        logits = y @ p.kernel + p.bias
        for row, target in zip(logits, ids[t + 1], strict=True):
            total -= np.log2(np.exp(row[target]) / np.exp(row).sum())
    return total / ids[1:].size, state


@pytest.mark.parametrize("anew", [True, False])
def test_loss_of_two_layers(anew):
    cells = (jn.lstm(4), jn.lstm(3))
    trial = language_model.trial(cells, SIZES, TEXT, 2, embedding=3, highway=jn.zoo.Highway())
    params, memory = random(trial.init(jax.random.key(0)))
    ids = trial.batch(0, 0)[0]
    bits, told = trial.loss(params, memory, (ids, np.bool_(anew)), jax.random.key(1))
    begin = jax.tree.map(jnp.zeros_like, memory.carry) if anew else memory.carry
    expected, state = oracle(params, ids, begin)
    assert float(bits) == pytest.approx(expected, rel=1e-5)
    for (c, h), carry in zip(state, told.memory.carry, strict=True):
        np.testing.assert_allclose(carry.c, c, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(carry.h, h, rtol=1e-4, atol=1e-5)


def test_validation_goes_on_from_window_to_window():
    trial = language_model.trial((jn.lstm(4), jn.lstm(3)), SIZES, TEXT, 2, embedding=3, highway=jn.zoo.Highway())
    params, memory = random(trial.init(jax.random.key(0)))
    rows = (len(TEXT.valid) - 1) // (2 * 5) * 5
    ids = np.stack([TEXT.valid[:11], TEXT.valid[rows : rows + 11]], axis=1)  # two streams, two windows of five
    expected, _ = oracle(params, ids, jax.tree.map(jnp.zeros_like, memory.carry))
    assert float(trial.evaluate(params, memory)["valid_bits"]) == pytest.approx(expected, rel=1e-5)


def test_units_are_dropped_in_training_alone():
    trial = language_model.trial(jn.RecurrentDropout(jn.lstm(4), rate=0.5), SIZES, TEXT, 2)
    params, memory = trial.init(jax.random.key(0))
    one, other = (float(trial.loss(params, memory, trial.batch(0, 0), jax.random.key(k))[0]) for k in (1, 2))
    assert one != other
    assert np.isfinite(float(trial.evaluate(params, memory)["valid_bits"]))


def test_all_relatives_have_as_many_parameters():
    for name in ("LSTM", "LN-MI-RNN", "LSTM, highway"):
        arm = relatives.ARMS[name]
        hidden = relatives.hidden_features(arm, 50, 130_000)
        counts = [language_model.parameters(language_model.Model((arm.cell(h),), 50, highway=arm.highway))
                  for h in (hidden - 1, hidden, hidden + 1)]  # fmt: skip
        assert np.argmin(np.abs(np.array(counts) - 130_000)) == 1
        assert abs(counts[1] / 130_000 - 1) < 0.01
