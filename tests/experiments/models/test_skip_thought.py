"""Skip-thought vectors against loops in float64, and the probes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from experiments.data.sentences import Padded
from experiments.models import probes
from experiments.models.skip_thought import Params, nats


@pytest.fixture(autouse=True)
def _as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


SIZE, FEATURES, SYMBOLS = 3, 2, 6


def gru(p, h, x):
    r, z, n = (x @ p.kernel[:, k] + p.bias.reshape(3, -1)[k] for k in range(3))
    r_h, z_h, n_h = (h @ p.recurrent[:, k] + p.recurrent_bias.reshape(3, -1)[k] for k in range(3))
    r, z = 1 / (1 + np.exp(-r - r_h)), 1 / (1 + np.exp(-z - z_h))
    return (1 - z) * h + z * np.tanh(n + r * n_h)


def oracle(params, triples):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    sums = np.zeros(2)
    for ids, lengths in zip(triples.ids, triples.lengths, strict=True):
        before, middle, after = (row[:n] for row, n in zip(ids, lengths, strict=True))
        vector = np.zeros(SIZE)
        for word in middle:
            vector = gru(p.encoder, vector, p.embedding[word])
        for k, (cell, sentence) in enumerate(((p.before, before), (p.after, after))):
            h, x = vector, np.zeros(FEATURES)
            for word in sentence:
                h = gru(cell, h, x)
                logits = h @ p.kernel + p.bias
                sums[k] += np.log(np.exp(logits).sum()) - logits[word]
                x = p.embedding[word]
    return sums


def test_nats_are_those_of_both_neighbors_word_by_word():
    cell, rng = jn.gru(SIZE, update_gate="renew"), np.random.default_rng(0)
    cells = [cell.init(jax.random.key(0), FEATURES)] * 3
    fresh = Params(jnp.zeros((SYMBOLS, FEATURES)), *cells, jnp.zeros((SIZE, SYMBOLS)), jnp.zeros(SYMBOLS))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), fresh)
    lengths = np.array([[4, 2, 1], [3, 4, 4]], np.int32)
    triples = Padded(rng.integers(0, SYMBOLS, (2, 3, 4)).astype(np.int32), lengths)
    (before, some), (after, others) = jax.jit(functools.partial(nats, cell))(params, triples)
    np.testing.assert_allclose((before, after), oracle(params, triples), rtol=1e-5)
    assert (int(some), int(others)) == (7, 5)


def test_probes_find_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    vectors, noise = rng.normal(size=(2, 300, 4))
    labels = (vectors[:, 0] > 0).astype(int)
    assert probes.accuracy(vectors, labels) > 0.95
    assert probes.accuracy(noise, labels) < 0.65
    related = np.abs(vectors - noise) @ [1.0, 2.0, 0.5, 0.0]
    assert probes.relatedness(vectors, noise, related, 200) > 0.99
    assert abs(probes.relatedness(vectors, noise, rng.permutation(related), 200)) < 0.4
