"""BN-LSTMs of Sonnet 1 and of Laurent et al. in NumPy float64, frame-wise and sequence-wise; Cooijmans' identity."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.oracles import flat, sigmoid

STEPS, BATCH, HIDDEN = 4, 5, 4


def bn(v, epsilon, scale, bias=0.0, axis=0):
    mean, var = v.mean(axis, keepdims=True), v.var(axis, keepdims=True)
    return scale * (v - mean) / np.sqrt(var + epsilon) + bias


def sonnet_step(p, c, h, x, sites):
    v_x, v_h = x @ flat(p.kernel), h @ flat(p.recurrent)
    if "input" in sites:
        v_x = bn(v_x, 1e-3, p.norm.input.scale)
    if "recurrent" in sites:
        v_h = bn(v_h, 1e-3, p.norm.recurrent.scale)
    i, f, g, o = np.split(v_x + v_h + p.bias, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    out = bn(c, 1e-3, p.norm.cell.scale, p.norm.cell.bias) if "cell" in sites else c
    return c, np.tanh(out) * sigmoid(o)


@pytest.mark.parametrize("sites", [("recurrent",), ("input", "recurrent", "cell")])
def test_sonnet_bn_lstm(sites, x64, rng):
    cell = jn.zoo.sonnet_bn_lstm(HIDDEN, sites=sites)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    c, h = (rng.standard_normal((BATCH, HIDDEN)) for _ in range(2))
    got = jn.unroll(cell, params, xs, carry=jn.LSTMCarry(jnp.asarray(c), jnp.asarray(h)))
    for x, y in zip(np.asarray(xs), got.outputs, strict=True):
        c, h = sonnet_step(oracles.to_numpy(params), c, h, x, sites)
        np.testing.assert_allclose(y, h, rtol=1e-10, atol=1e-12)


def run_laurent(p, normalized):
    """The loop behind an input product that is normalized already."""
    c = h = np.zeros((BATCH, HIDDEN))
    outputs = []
    for v_x in normalized:
        i, f, g, o = np.split(v_x + h @ flat(p.recurrent), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def test_laurent_bn_lstm_frame_by_frame(x64, rng):
    cell = jn.zoo.laurent_bn_lstm(HIDDEN, max_steps=STEPS)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    p = oracles.to_numpy(params)
    normalized = bn(np.asarray(xs) @ flat(p.kernel), 1e-5, *p.norm.input, axis=1)
    got = jn.unroll(cell, params, xs)
    np.testing.assert_allclose(got.outputs, run_laurent(p, normalized), rtol=1e-10)
    assert cell.update_running(cell.initial_stats(), got.moments).input.mean.shape == (STEPS, 4 * HIDDEN)


def test_laurent_bn_lstm_over_whole_sequences_of_different_length(x64, rng):
    cell = jn.zoo.laurent_bn_lstm(HIDDEN, max_steps=1, epsilon=1e-6)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    lengths = jnp.array([4, 1, 3, 2, 4])
    real = np.arange(STEPS)[:, None] < np.asarray(lengths)
    xs = jnp.where(real[..., None], cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64), jnp.nan)
    p = oracles.to_numpy(params)
    products = np.where(real[..., None], np.nan_to_num(xs) @ flat(p.kernel), 0.0)
    count = real.sum()
    mean = products.sum((0, 1)) / count
    var = (np.square(products - mean) * real[..., None]).sum((0, 1)) / count
    scale, bias = p.norm.input
    expected = run_laurent(p, scale * (products - mean) / np.sqrt(var + 1e-6) + bias)

    def run(params, xs):
        stats = jn.sequence_statistics(cell, params, xs, lengths=lengths)
        return jn.unroll(cell, params, xs, lengths=lengths, stats=stats).outputs, stats

    outputs, stats = jax.jit(run)(params, xs)
    np.testing.assert_allclose(np.asarray(outputs)[real], expected[real], rtol=1e-10)
    np.testing.assert_allclose(stats.input.mean[0], mean, rtol=1e-10)
    np.testing.assert_array_equal(stats.input.count, [count])
    folded = cell.update_running(cell.initial_stats(), stats)
    np.testing.assert_allclose(folded.input.mean, stats.input.mean, rtol=1e-6)

    def loss(params):
        return jnp.sum(jnp.where(real[..., None], run(params, xs)[0], 0.0))

    gradient = jax.jit(jax.grad(loss))(params)
    chex.assert_tree_all_finite(gradient)
    # The statistics are differentiated too: the size of W does not matter, up to epsilon.
    along = float(jnp.sum(gradient.kernel * params.kernel))
    assert abs(along) < 1e-3 * float(jnp.linalg.norm(gradient.kernel) * jnp.linalg.norm(params.kernel))


def test_sequence_statistics_only_where_they_can_be(rng):
    xs = cases.random_inputs(rng)
    for cell in (jn.ln_lstm(HIDDEN), jn.bn_lstm(HIDDEN, max_steps=2)):
        with pytest.raises(ValueError, match=r"sequence_statistics: only the norm at the site 'input' may have"):
            jn.sequence_statistics(cell, cases.random_cell_params(cell, rng), xs)
    with pytest.raises(ValueError, match=r"sonnet_bn_lstm: sites must be one of 'input', 'recurrent', 'cell'; got 'x'"):
        jn.zoo.sonnet_bn_lstm(HIDDEN, sites=("x",))


def test_fresh_weights_of_both_and_the_identity_of_cooijmans(key):
    sonnet = jn.zoo.sonnet_bn_lstm(HIDDEN, sites=("recurrent", "cell")).init(key, 3)
    np.testing.assert_allclose(sonnet.norm.recurrent.scale, 0.1)
    assert sonnet.norm.recurrent.bias is None
    np.testing.assert_array_equal(sonnet.norm.cell.bias, np.zeros(HIDDEN))
    np.testing.assert_array_equal(sonnet.bias, np.repeat([0.0, 1.0, 0.0, 0.0], HIDDEN))
    laurent = jn.zoo.laurent_bn_lstm(HIDDEN, max_steps=2).init(key, 3)
    assert laurent.bias is None
    np.testing.assert_array_equal(laurent.norm.input.bias, np.zeros(4 * HIDDEN))
    recurrent_init = jn.initializers.cooijmans_identity
    recurrent = np.asarray(jn.bn_lstm(HIDDEN, max_steps=2, recurrent_init=recurrent_init).init(key, 3).recurrent)
    np.testing.assert_array_equal(recurrent[:, 2], np.eye(HIDDEN))
    rest = flat(recurrent[:, [0, 1, 3]])
    np.testing.assert_allclose(rest @ rest.T, np.eye(HIDDEN), atol=1e-6)
