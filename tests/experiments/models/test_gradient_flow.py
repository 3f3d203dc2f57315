"""Gradients with respect to hidden states, against differences of an LSTM in NumPy."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

import jaxnorm as jn
from experiments.models.gradient_flow import hidden_gradient_norms

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 2, 2
XS = np.random.default_rng(0).normal(size=(STEPS, BATCH, INPUTS))
MOVE = 1e-6  # of one number in a hidden state


@pytest.fixture(autouse=True)
def promotion():
    """Experiments are written as users write: NumPy's promotion is on."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def batch_normalized(v, params):
    return params.scale * (v - v.mean(0)) / np.sqrt(v.var(0) + 1e-5) + (0.0 if params.bias is None else params.bias)


def unchanged(v, params):
    return v


def loss_after(params, start, norm, at, move):
    """The sum of squares of the last output, where the hidden state that step ``at`` reads is moved."""
    sites = params.norm
    kernel, recurrent, bias = (np.asarray(leaf) for leaf in (params.kernel, params.recurrent, params.bias))
    kernel, recurrent, bias = kernel.reshape(INPUTS, -1), recurrent.reshape(HIDDEN, -1), bias.reshape(-1)
    c, h = (np.asarray(part) for part in start)
    for t in range(STEPS):
        h = h + move if t == at else h
        i, f, g, o = np.split(
            norm(XS[t] @ kernel, sites.input) + norm(h @ recurrent, sites.recurrent) + bias, 4, axis=-1
        )
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(norm(c, sites.cell)) / (1 + np.exp(-o))
    return np.square(h).sum()


@pytest.mark.parametrize(
    ("make", "norm"),
    [(lambda: jn.lstm(HIDDEN), unchanged), (lambda: jn.bn_lstm(HIDDEN, max_steps=STEPS), batch_normalized)],
    ids=["LSTM", "BN-LSTM"],
)
def test_norms_are_those_of_differences(make, norm):
    cell, draw = make(), np.random.default_rng(1)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), cell.init(jax.random.key(0), INPUTS))
        key = jax.random.key(2)
        found = hidden_gradient_norms(cell, params, jnp.asarray(XS), lambda h: jnp.square(h).sum(), key=key)
    start = np.zeros((2, BATCH, HIDDEN))
    for t in range(STEPS):
        gradient = np.zeros((BATCH, HIDDEN))
        for place in np.ndindex(gradient.shape):
            move = np.zeros_like(gradient)
            move[place] = MOVE
            up, down = (loss_after(params, start, norm, t, sign * move) for sign in (1, -1))
            gradient[place] = (up - down) / (2 * MOVE)
        np.testing.assert_allclose(found[t], np.linalg.norm(gradient), rtol=1e-5)
