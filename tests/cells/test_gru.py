"""What is peculiar to the GRU: two biases, two words for the update gate, groups of gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.GRU(HIDDEN, learn_carry=True).init(key, 3)
    assert params.kernel.shape == (3, 3, HIDDEN)
    assert params.recurrent.shape == (HIDDEN, 3, HIDDEN)
    np.testing.assert_array_equal(params.bias, np.zeros(3 * HIDDEN))
    np.testing.assert_array_equal(params.recurrent_bias, np.zeros(3 * HIDDEN))
    np.testing.assert_array_equal(params.carry.h, np.zeros(HIDDEN))
    for gate in range(3):
        block = np.asarray(params.recurrent[:, gate])
        np.testing.assert_allclose(block @ block.T, np.eye(HIDDEN), atol=1e-6)
    assert jn.GRU(HIDDEN, use_bias=False).init(key, 3).recurrent_bias is None


def test_the_two_words_for_the_update_gate_are_one_model(rng):
    """z of one is 1 - z of the other: turn the sign of everything that leads to it."""
    keep, renew = jn.GRU(HIDDEN), jn.GRU(HIDDEN, update_gate="renew")
    params = cases.random_cell_params(keep, rng)
    xs = cases.random_inputs(rng)
    sign = jnp.array([1.0, -1.0, 1.0])
    turned = params._replace(
        kernel=params.kernel * sign[None, :, None],
        recurrent=params.recurrent * sign[None, :, None],
        bias=params.bias * jnp.repeat(sign, HIDDEN),
        recurrent_bias=params.recurrent_bias * jnp.repeat(sign, HIDDEN),
    )
    np.testing.assert_allclose(
        jn.unroll(renew, turned, xs).outputs, jn.unroll(keep, params, xs).outputs, rtol=1e-5, atol=1e-6
    )


def test_the_two_words_differ(rng):
    params = cases.random_cell_params(jn.GRU(HIDDEN), rng)
    xs = cases.random_inputs(rng, 2)
    assert not np.allclose(
        jn.unroll(jn.GRU(HIDDEN), params, xs).outputs,
        jn.unroll(jn.GRU(HIDDEN, update_gate="renew"), params, xs).outputs,
    )


def test_all_gates_together_share_statistics(x64, rng):
    """gate_groups=(3,) is one norm over 3H."""
    cell = jn.ln_gru(HIDDEN, gate_groups=(3,))
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 1, (3,), jnp.float64)
    h = rng.standard_normal((3, HIDDEN))
    p = oracles.to_numpy(params)
    x_side = oracles.layer_norm(np.asarray(xs[0]) @ oracles.flat(p.kernel), *p.norm.input)
    h_side = oracles.layer_norm(h @ oracles.flat(p.recurrent), *p.norm.recurrent)
    r_x, z_x, n_x = np.split(x_side + p.bias, 3, axis=-1)
    r_h, z_h, n_h = np.split(h_side + p.recurrent_bias, 3, axis=-1)
    z = oracles.sigmoid(z_x + z_h)
    expected = (1 - z) * h + z * np.tanh(n_x + oracles.sigmoid(r_x + r_h) * n_h)
    got = jn.unroll(cell, params, xs, carry=jn.GRUCarry(jnp.asarray(h)))
    np.testing.assert_allclose(got.outputs[0], expected, rtol=1e-10)


def test_initial_noise_and_learned_carry(rng, key):
    cell = jn.GRU(HIDDEN, learn_carry=True, initial_noise=0.1)
    params = cases.random_cell_params(cell, rng)
    carry = cell.initial_carry((2,), params=params, key=key)
    plain = jn.GRU(HIDDEN, learn_carry=True).initial_carry((2,), params=params)
    np.testing.assert_array_equal(plain.h, np.broadcast_to(params.carry.h, (2, HIDDEN)))
    noise = np.asarray(carry.h - plain.h)
    assert np.all(noise != 0)
    assert not np.allclose(noise[0], noise[1])


def test_batch_norm_with_rows_carries_a_count(rng):
    cell = jn.GRU(HIDDEN, norm=jn.BatchNorm(), max_steps=2)
    carry = cell.initial_carry((3,))
    assert isinstance(carry, jn.CountedCarry)
    np.testing.assert_array_equal(carry.step, np.zeros(3))
    assert carry.h.shape == (3, HIDDEN)
    with pytest.raises(AttributeError):
        carry.c  # noqa: B018
    assert jax.tree.map(lambda leaf: leaf.shape[0], cell.initial_stats()).recurrent.mean == 2


@pytest.mark.parametrize(
    "cell", [jn.GRU(HIDDEN), jn.ln_gru(HIDDEN), jn.zoo.MGU(HIDDEN, reset="recurrent")], ids=["gru", "ln_gru", "mgu"]
)
def test_only_the_candidate_has_a_bias_to_add_in_the_loop(cell, rng):
    """The biases of the gates whose sides are only added join the input side before the loop."""
    params = cases.random_cell_params(cell, rng)
    weights = cell.prepare(params)
    own = np.asarray(params.recurrent_bias)
    own = np.concatenate([np.zeros(cell.gates.gates * HIDDEN - own.size), own])  # that of an MGU is the candidate's
    of_norms = [np.asarray(getattr(site, "bias", 0.0)) for site in (params.norm.input, params.norm.recurrent)]
    in_loop = own + of_norms[1]
    np.testing.assert_allclose(weights.recurrent_out, in_loop[-HIDDEN:], rtol=1e-6)
    before = np.asarray(params.bias) + of_norms[0]
    before[:-HIDDEN] += in_loop[:-HIDDEN]
    np.testing.assert_allclose(weights.bias, before, rtol=1e-5, atol=1e-6)
