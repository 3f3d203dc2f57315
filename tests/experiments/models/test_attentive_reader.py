"""The attentive reader against loops over words and examples in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from experiments.data.sentences import Padded
from experiments.models.attentive_reader import Reader


@pytest.fixture(autouse=True)
def _as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


SIZE, FEATURES, SYMBOLS, ANSWERS = 2, 3, 7, 4
BATCH = jn.BatchNorm(momentum=0.0)
READERS = {
    "plain": Reader(jn.lstm(SIZE), jn.lstm(SIZE)),
    "normalized": Reader(
        *(
            jn.bn_lstm(SIZE, max_steps=steps, norm=jn.CellNorms(recurrent=BATCH, cell=BATCH))
            for steps in (5, 3)
        ),
        inputs=jn.BatchNorm(momentum=0.0),
        terms=BATCH,
    ),
}  # fmt: skip


def bn(x, affine):
    if affine == ():
        return x
    return np.asarray(affine.scale) * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) + np.asarray(affine.bias)


def read(p, affine, sentences):
    """Outputs (n, H) of each sentence (n, E)."""
    ends = np.cumsum([len(s) for s in sentences])[:-1]
    kernel, recurrent = (np.reshape(k, (len(k), -1)) for k in (p.kernel, p.recurrent))
    products = np.split(bn(np.concatenate(sentences) @ kernel, affine), ends)
    h, c = np.zeros((2, len(sentences), SIZE))
    outputs = [[] for _ in sentences]
    for t in range(max(map(len, sentences))):
        live = [k for k, s in enumerate(sentences) if len(s) > t]
        a = bn(h[live] @ recurrent, p.norm.recurrent) + np.stack([products[k][t] for k in live]) + np.asarray(p.bias)
        i, f, g, o = np.split(a, 4, axis=1)
        c[live] = c[live] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h[live] = np.tanh(bn(c[live], p.norm.cell)) / (1 + np.exp(-o))
        for k in live:
            outputs[k].append(h[k].copy())
    return [np.array(rows) for rows in outputs]


def both_ways(params, embedding, padded):
    sentences = [embedding[ids[:n]] for ids, n in zip(padded.ids, padded.lengths, strict=True)]
    forward = read(params.cells.forward, params.inputs.forward, sentences)
    backward = read(params.cells.backward, params.inputs.backward, [s[::-1] for s in sentences])
    joined = [np.concatenate([f, b[::-1]], axis=1) for f, b in zip(forward, backward, strict=True)]
    return joined, np.stack([np.concatenate([f[-1], b[-1]]) for f, b in zip(forward, backward, strict=True)])


def oracle(p, story, question):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), p)
    ys, _ = both_ways(p.story, p.embedding, story)
    _, us = both_ways(p.question, p.embedding, question)
    ends = np.cumsum([len(y) for y in ys])[:-1]
    left = np.split(bn(np.concatenate(ys) @ p.attention[0], p.attention_norms[0]), ends)
    right = bn(us @ p.attention[1], p.attention_norms[1])
    logits, alignments = [], []
    for y, u, one, other in zip(ys, us, left, right, strict=True):
        weights = np.exp(np.tanh(one + other + p.attention_bias) @ p.score)
        weights /= weights.sum()
        g = np.tanh(
            sum(w * row for w, row in zip(weights, y, strict=True)) @ p.joint[0] + u @ p.joint[1] + p.joint_bias
        )
        logits.append(g @ p.answer + p.answer_bias)
        alignments.append(weights)
    return np.array(logits), alignments


def examples():
    rng = np.random.default_rng(3)
    story = Padded(rng.integers(0, SYMBOLS, (4, 5)).astype(np.int32), np.array([5, 2, 4, 5], np.int32))
    return story, Padded(rng.integers(0, SYMBOLS, (4, 3)).astype(np.int32), np.array([1, 3, 2, 3], np.int32))


@pytest.mark.parametrize("name", READERS)
def test_the_reader_computes_its_equations(name):
    reader = READERS[name]
    params, memory = reader.init(jax.random.key(0), SYMBOLS, ANSWERS, FEATURES)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)
    story, question = examples()
    logits, alignment, seen = jax.jit(reader.__call__)(params, story, question)
    expected, weights = oracle(params, story, question)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    for k, one in enumerate(weights):
        np.testing.assert_allclose(alignment[: len(one), k], one, rtol=1e-3, atol=1e-4)
        assert not alignment[len(one) :, k].any()
    # With its own moments as running statistics a batch gives what it gave in training, where ages come at one step.
    again = jax.jit(reader.__call__)(params, story, question, reader.update_running(memory, seen))[0]
    np.testing.assert_allclose(again, logits, rtol=1e-3, atol=1e-3)
