"""What is peculiar to the LSTM: its initial values, learned and noisy initial carries, groups of gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.LSTM(HIDDEN).init(key, 3)
    assert params.kernel.shape == (3, 4, HIDDEN)
    assert params.recurrent.shape == (HIDDEN, 4, HIDDEN)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 1.0, 0.0, 0.0], HIDDEN))
    assert params.norm == jn.CellNorms((), (), ())
    assert params.carry is None
    for gate in range(4):
        block = np.asarray(params.recurrent[:, gate])
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-6)
        assert not np.allclose(block, params.recurrent[:, gate - 1]), "the gates are drawn apart"
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4 * HIDDEN * (3 + HIDDEN + 1)


def test_initializers_can_be_chosen_for_each_gate(key):
    ones, eye, orthogonal = jax.nn.initializers.ones, jn.initializers.eye, jn.initializers.orthogonal
    cell = jn.LSTM(HIDDEN, kernel_init=ones, recurrent_init=(orthogonal, orthogonal, eye, orthogonal))
    params = cell.init(key, 3)
    np.testing.assert_array_equal(params.kernel, 1.0)
    np.testing.assert_array_equal(params.recurrent[:, 2], np.eye(HIDDEN))
    assert not np.allclose(params.recurrent[:, 0], np.eye(HIDDEN))
    with pytest.raises(ValueError, match=r"LSTM\.init: recurrent_init has 2 initializers.* 4 gates"):
        jn.LSTM(HIDDEN, recurrent_init=(eye, eye)).init(key, 3)


def test_forget_bias_is_in_the_weights_and_nowhere_else(rng):
    params = cases.random_cell_params(jn.LSTM(HIDDEN), rng)
    xs = cases.random_inputs(rng, 2)
    plain = jn.unroll(jn.LSTM(HIDDEN, forget_bias=0.0), params, xs).outputs
    np.testing.assert_array_equal(jn.unroll(jn.LSTM(HIDDEN, forget_bias=5.0), params, xs).outputs, plain)


def test_learned_initial_carry_starts_every_sequence_and_gets_a_gradient(rng):
    cell = jn.LSTM(HIDDEN, learn_carry=True)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 2)
    tiled = jax.tree.map(lambda v: jnp.broadcast_to(v, (3, HIDDEN)), params.carry)
    handed = jn.unroll(cell, params, xs, carry=tiled)
    gradient = jax.jit(jax.grad(lambda p: jn.unroll(cell, p, xs).outputs.sum()))(params)
    np.testing.assert_allclose(jn.unroll(cell, params, xs).outputs, handed.outputs, atol=1e-6)
    assert all(bool(jnp.all(leaf != 0)) for leaf in gradient.carry)
    fresh = cell.init(jax.random.key(0), 3)
    np.testing.assert_array_equal(fresh.carry.c, np.zeros(HIDDEN))


def test_initial_noise_needs_a_key_is_apart_for_each_example_and_repeats(key):
    cell = jn.LSTM(200, initial_noise=0.1)
    carry = cell.initial_carry((3,), key=key)
    assert not np.any(carry.c)
    assert not np.allclose(carry.h[0], carry.h[1])
    assert abs(float(carry.h.std()) - 0.1) < 0.01
    np.testing.assert_array_equal(carry.h, cell.initial_carry((3,), key=key).h)
    with pytest.raises(ValueError, match=r"initial_noise=0\.1 needs randomness, but key is None"):
        cell.initial_carry((3,))


def test_unroll_hands_the_key_to_the_initial_carry(rng, key):
    cell = jn.LSTM(HIDDEN, initial_noise=0.5)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 1)
    once, again, other = (jn.unroll(cell, params, xs, key=k).outputs for k in (key, key, jax.random.key(7)))
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, other)
    with pytest.raises(ValueError, match="key is None"):
        jn.unroll(cell, params, xs)


def test_each_gate_alone_has_statistics_of_its_own(x64, rng):
    """gate_groups=(1, 1, 1, 1) is four norms over H, (2, 2) two over 2H; the weights keep their shape."""
    p = cases.random_cell_params(jn.ln_lstm(HIDDEN), rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 1, (3,), jnp.float64)
    carry = jn.LSTMCarry(*(jnp.asarray(rng.standard_normal((3, HIDDEN))) for _ in range(2)))
    q = oracles.to_numpy(p)
    for groups in ((1, 1, 1, 1), (2, 2)):
        size = groups[0]

        def by_group(v, affine, size=size):
            parts = np.split(v, 4 // size, axis=-1)
            scales, biases = (np.split(w, 4 // size) for w in affine)
            return np.concatenate([oracles.layer_norm(*each) for each in zip(parts, scales, biases, strict=True)], -1)

        gates = (
            by_group(np.asarray(carry.h) @ oracles.flat(q.recurrent), q.norm.recurrent)
            + by_group(np.asarray(xs[0]) @ oracles.flat(q.kernel), q.norm.input)
            + q.bias
        )
        i, f, g, _ = np.split(gates, 4, axis=-1)
        c = oracles.sigmoid(f) * np.asarray(carry.c) + oracles.sigmoid(i) * np.tanh(g)
        got = jn.unroll(jn.ln_lstm(HIDDEN, gate_groups=groups), p, xs, carry=carry)
        np.testing.assert_allclose(got.carry.c, c, rtol=1e-10)


def test_without_bias(rng):
    cell = jn.LSTM(HIDDEN, use_bias=False)
    params = cases.random_cell_params(cell, rng)
    assert params.bias is None
    xs = cases.random_inputs(rng, 2)
    zero = params._replace(bias=jnp.zeros(4 * HIDDEN))
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs).outputs, jn.unroll(jn.LSTM(HIDDEN), zero, xs).outputs, atol=1e-6
    )
