"""The LSTM with moving averages in training, against NumPy in double precision and against the cell of the library."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

import jaxnorm as jn
from experiments.models import moving_averages

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 2, 2
LENGTHS = np.array([5, 2, 4])
XS = np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS))


@pytest.fixture(autouse=True)
def promotion():
    """Experiments are written as users write: NumPy's promotion is on."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def given(rows):
    cell = jn.LSTM(HIDDEN, norm=jn.CellNorms(summed=jn.BatchNorm(use_bias=False)), max_steps=rows)
    draw = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), cell.init(jax.random.key(0), INPUTS))
    running = jn.Moments(draw.normal(size=(rows, 8)), draw.uniform(0.5, 2, (rows, 8)), np.full(rows, 7.0))
    return cell, params, running


def oracle(params, running, momentum, epsilon=1e-5):
    """Outputs, and mean, variance and count of each step, example by example."""
    kernel, recurrent = params.kernel.reshape(INPUTS, 8), params.recurrent.reshape(HIDDEN, 8)
    c, h = np.zeros((BATCH, HIDDEN)), np.zeros((BATCH, HIDDEN))
    outputs, measured = np.zeros((STEPS, BATCH, HIDDEN)), []
    for t in range(STEPS):
        real = [b for b in range(BATCH) if t < LENGTHS[b]]
        v = {b: XS[t, b] @ kernel + h[b] @ recurrent for b in real}
        mean, var = np.mean(list(v.values()), axis=0), np.var(list(v.values()), axis=0)
        measured.append((mean, var, len(real)))
        r = min(t, len(running.mean) - 1)
        mean = momentum * running.mean[r] + (1 - momentum) * mean
        var = momentum * running.var[r] + (1 - momentum) * var
        for b in real:
            y = params.norm.summed.scale * (v[b] - mean) / np.sqrt(var + epsilon) + params.bias
            i, f, g, o = y.reshape(4, HIDDEN)
            c[b] = c[b] / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h[b] = np.tanh(c[b]) / (1 + np.exp(-o))
            outputs[t, b] = h[b]
    return outputs, measured


def forward(params, running, momentum):
    norm = jn.zoo.MomentumBatchNorm(momentum=momentum, use_bias=False)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (params, XS, running))
    params, xs, running = single
    return moving_averages.forward(norm, params, xs, jnp.asarray(LENGTHS), running)


@pytest.mark.parametrize("rows", [1, STEPS])
def test_equation(rows):
    _, params, running = given(rows)
    outputs, moments = forward(params, running, 0.6)
    expected, measured = oracle(params, running, 0.6)
    for b, length in enumerate(LENGTHS):
        np.testing.assert_allclose(outputs[:length, b], expected[:length, b], rtol=1e-4, atol=1e-5)
    means, variances, counts = map(np.array, zip(*measured, strict=True))
    if rows == 1:
        weights = counts[:, None] / counts.sum()
        mean = (weights * means).sum(0)
        variances = (weights * (variances + means**2)).sum(0) - mean**2
        means, variances, counts = mean[None], variances[None], counts.sum()[None]
    np.testing.assert_allclose(moments.mean, means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.var, variances, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(moments.count, counts)


def test_without_momentum_it_is_the_cell_of_the_library():
    cell, params, running = given(1)
    outputs, moments = forward(params, running, 0.0)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    out = jn.unroll(cell, single, jnp.asarray(XS, jnp.float32), lengths=jnp.asarray(LENGTHS))
    real = np.arange(STEPS)[:, None] < LENGTHS
    np.testing.assert_allclose(np.where(real[..., None], outputs, 0), out.outputs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(moments, out.moments.summed, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
