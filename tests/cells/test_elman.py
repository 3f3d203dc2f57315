"""What is peculiar to the Elman cell: one vector instead of gates, a choice of nonlinearity, norms at all sites."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

HIDDEN = 4


def test_shapes_and_values_of_fresh_weights(key):
    params = jn.Elman(HIDDEN, learn_carry=True).init(key, 3)
    assert params.kernel.shape == (3, HIDDEN)
    np.testing.assert_allclose(params.recurrent @ params.recurrent.T, np.eye(HIDDEN), atol=1e-6)
    np.testing.assert_array_equal(params.bias, np.zeros(HIDDEN))
    np.testing.assert_array_equal(params.carry.h, np.zeros(HIDDEN))
    eye = jn.Elman(HIDDEN, recurrent_init=jn.initializers.eye, use_bias=False).init(key, 3)
    np.testing.assert_array_equal(eye.recurrent, np.eye(HIDDEN))
    assert eye.bias is None


def test_norms_at_all_sites_and_another_nonlinearity(x64, rng):
    cell = jn.Elman(HIDDEN, norm=jn.LayerNorm(), activation_fn=jax.nn.relu)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 1, (3,), jnp.float64)
    h = rng.standard_normal((3, HIDDEN))
    p = oracles.to_numpy(params)
    summed = oracles.layer_norm(np.asarray(xs[0]) @ p.kernel, *p.norm.input)
    summed = summed + oracles.layer_norm(h @ p.recurrent, *p.norm.recurrent)
    expected = np.maximum(oracles.layer_norm(summed, *p.norm.cell) + p.bias, 0.0)
    got = jn.unroll(cell, params, xs, carry=jn.ElmanCarry(jnp.asarray(h)))
    np.testing.assert_allclose(got.outputs[0], expected, rtol=1e-10, atol=1e-12)


def test_norm_of_the_sum_sees_the_sum(rng):
    """Twice all kernels is the same network: what is normalized is the sum of both products."""
    cell = jn.ln_rnn(HIDDEN, epsilon=0.0)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng)
    doubled = params._replace(kernel=2 * params.kernel, recurrent=2 * params.recurrent)
    one_doubled = params._replace(kernel=2 * params.kernel)
    outputs = jn.unroll(cell, params, xs).outputs
    np.testing.assert_allclose(jn.unroll(cell, doubled, xs).outputs, outputs, rtol=1e-4, atol=1e-5)
    assert not np.allclose(jn.unroll(cell, one_doubled, xs).outputs, outputs, atol=1e-2)


def test_noise_needs_a_key():
    with pytest.raises(ValueError, match="Elman: initial_noise"):
        jn.Elman(HIDDEN, initial_noise=1.0).initial_carry((2,))
