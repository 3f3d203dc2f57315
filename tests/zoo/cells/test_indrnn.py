"""What is peculiar to the IndRNN: a vector in place of the recurrent matrix, and the bound on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def oracle(p, xs, h, act, norm_x=lambda v, *_: v, norm_c=lambda v, *_: v):
    """The equation of the paper with a norm of the input product and one of the sum, unit by unit."""
    hs = []
    for x in xs:
        past = np.stack([u * h[:, k] for k, u in enumerate(p.recurrent)], axis=-1)
        h = act(norm_c(norm_x(x @ p.kernel, *p.norm.input) + past, *p.norm.cell) + p.bias)
        hs.append(h)
    return np.stack(hs)


@pytest.mark.parametrize("name", ["relu", "tanh", "layer_norm", "layer_norm_of_the_sum"])
def test_cell_is_the_equation_of_the_paper(name, x64, rng):
    options, act, norms = {
        "relu": ({}, lambda v: np.maximum(v, 0.0), {}),
        "tanh": ({"activation_fn": jnp.tanh}, np.tanh, {}),
        "layer_norm": ({"norm": jn.LayerNorm()}, lambda v: np.maximum(v, 0.0), {"norm_x": oracles.layer_norm}),
        "layer_norm_of_the_sum": (
            {"norm": jn.CellNorms(cell=jn.LayerNorm()), "activation_fn": jnp.tanh},
            np.tanh,
            {"norm_c": oracles.layer_norm},
        ),
    }[name]
    cell = jn.zoo.IndRNN(HIDDEN, **options)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, h = cases.random_inputs(rng, dtype=jnp.float64), rng.standard_normal((3, HIDDEN))
    got = jn.unroll(cell, params, xs, carry=jn.zoo.IndRNNCarry(jnp.asarray(h)))
    expected = oracle(oracles.to_numpy(params), np.asarray(xs), h, act, **norms)
    np.testing.assert_allclose(got.outputs, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.carry.h, expected[-1], rtol=1e-10, atol=1e-12)


def test_units_know_nothing_of_each_other(rng):
    """What one unit held before reaches that unit alone, also with a norm over the batch of what it gets."""
    cell = jn.zoo.IndRNN(HIDDEN, norm=jn.CellNorms(recurrent=jn.BatchNorm()), activation_fn=jnp.tanh)
    params = cases.random_cell_params(cell, rng)
    xs, h = cases.random_inputs(rng), rng.standard_normal((3, HIDDEN)).astype(np.float32)
    before = jn.unroll(cell, params, xs, carry=jn.zoo.IndRNNCarry(jnp.asarray(h))).outputs
    h[0, 1] += 1.0
    after = jn.unroll(cell, params, xs, carry=jn.zoo.IndRNNCarry(jnp.asarray(h))).outputs
    changed = np.any(np.asarray(before != after), axis=(0, 1))
    np.testing.assert_array_equal(changed, [False, True, False, False])


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.zoo.IndRNN(64).init(key, 3)
    assert params.kernel.shape == (3, 64)
    assert params.recurrent.shape == (64,)
    assert 0.0 <= float(params.recurrent.min()) < 0.2 < 0.8 < float(params.recurrent.max()) <= 1.0
    haste = jn.zoo.IndRNN(64, activation_fn=jnp.tanh, recurrent_init=jn.initializers.Uniform(-0.5, 0.5)).init(key, 3)
    assert -0.5 <= float(haste.recurrent.min()) < -0.3 < 0.3 < float(haste.recurrent.max()) <= 0.5


def test_bound_of_the_recurrent_weights(x64, rng):
    """With all weights at the bound, ReLU open and no input, h has grown by gamma after T steps."""
    steps, gamma = 5, 2.0
    u = jn.zoo.clip_indrnn(jnp.asarray(rng.uniform(5.0, 9.0, HIDDEN)), steps=steps, gamma=gamma)
    cell = jn.zoo.IndRNN(HIDDEN)
    params = jax.tree.map(jnp.zeros_like, cases.random_cell_params(cell, rng, dtype=jnp.float64))
    h = jn.unroll(
        cell, params._replace(recurrent=u), jnp.zeros((steps, 3)), carry=jn.zoo.IndRNNCarry(jnp.ones(HIDDEN))
    ).carry.h
    np.testing.assert_allclose(h, gamma, rtol=1e-12)
    np.testing.assert_array_equal(
        jn.zoo.clip_indrnn(jnp.array([-9.0, 0.3], jnp.bfloat16), steps=1, gamma=1.0),
        jnp.array([-1.0, 0.3], jnp.bfloat16),
    )


def test_errors():
    with pytest.raises(ValueError, match="IndRNN: there is no site 'summed', only 'input', 'recurrent', 'cell'"):
        jn.zoo.IndRNN(HIDDEN, norm=jn.CellNorms(summed=jn.LayerNorm()))
    with pytest.raises(ValueError, match="clip_indrnn: steps must be a positive integer, got 0"):
        jn.zoo.clip_indrnn(jnp.ones(2), steps=0, gamma=2.0)
    with pytest.raises(ValueError, match=r"clip_indrnn: gamma must be a number above zero, got -1\.0"):
        jn.zoo.clip_indrnn(jnp.ones(2), steps=3, gamma=-1.0)
