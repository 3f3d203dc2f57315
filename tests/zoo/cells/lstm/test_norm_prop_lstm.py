"""The normalized LSTM in NumPy float64, and the variance that it propagates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.oracles import flat, sigmoid

STEPS, BATCH, HIDDEN = 4, 3, 4


def unit(kernel):
    return kernel / np.sqrt((kernel**2).sum(0, keepdims=True))


def step(p, carry, x, cell_variance, hidden_variance):
    c, h = carry
    v = p.scale.input * (x @ flat(unit(p.kernel))) + p.scale.recurrent * (h @ flat(unit(p.recurrent)))
    i, f, g, o = np.split(v + (0.0 if p.bias is None else p.bias), 4, axis=-1)
    c = sigmoid(i) * np.tanh(g) + sigmoid(f) * c
    h = sigmoid(o) * np.tanh(p.scale.cell * c / np.sqrt(cell_variance)) / np.sqrt(hidden_variance)
    return (c, h), h


@pytest.mark.parametrize("options", [{}, {"input_scale": 0.5, "recurrent_scale": 0.7, "cell_scale": 0.5}])
@pytest.mark.parametrize("use_bias", [True, False])
def test_it_is_the_equation_of_the_paper(options, use_bias, x64, rng):
    cell = jn.zoo.norm_prop_lstm(HIDDEN, use_bias=use_bias, **options)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    state = tuple(rng.standard_normal((BATCH, HIDDEN)) for _ in range(2))
    got = jn.unroll(cell, params, xs, carry=jn.LSTMCarry(*map(jnp.asarray, state)))
    # The constants come from the initial gains (see test_norm_prop.py), not from the trained ones.
    constants = jn.zoo.norm_prop_lstm_variances(**options)
    for x, y in zip(np.asarray(xs), got.outputs, strict=True):
        state, expected = step(oracles.to_numpy(params), state, x, *constants)
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got.carry.c, state[0], rtol=1e-10)


def test_fresh_gains_and_the_other_rule_for_the_constants(key):
    cell = jn.zoo.norm_prop_lstm(HIDDEN)
    scale = cell.init(key, 3).scale
    assert [float(leaf.mean()) for leaf in scale] == [2.0, 2.0, 1.0]
    assert cell.variances == jn.zoo.norm_prop_lstm_variances()
    other = jn.zoo.norm_prop_lstm(HIDDEN, combine="independent")
    assert other.variances == jn.zoo.norm_prop_lstm_variances(combine="independent")
    assert other.variances != cell.variances


def test_variance_one_goes_in_and_comes_out(key):
    """Where successive pre-activations are independent, as the derivation assumes: without a recurrent product."""
    hidden = 256
    cell = jn.zoo.norm_prop_lstm(hidden, input_scale=0.7, recurrent_scale=0.0, cell_scale=0.5)
    xs = jax.random.normal(jax.random.key(3), (40, 8, hidden))
    ys = jn.unroll(cell, cell.init(key, hidden), xs).outputs[10:]
    np.testing.assert_allclose(float(jnp.var(ys)), 1.0, rtol=0.05)


def test_units_without_weights_give_their_bias_and_finite_gradients(rng):
    cell = jn.zoo.norm_prop_lstm(HIDDEN)
    params = cases.random_cell_params(cell, rng)
    params = params._replace(kernel=0.0 * params.kernel, recurrent=0.0 * params.recurrent)
    xs = cases.random_inputs(rng, 2)
    gradients = jax.jit(jax.grad(lambda p: jn.unroll(cell, p, xs).outputs.sum()))(params)
    chex.assert_tree_all_finite(gradients)


def test_errors():
    with pytest.raises(ValueError, match=r"NormPropLSTM: there is no site 'cell', only none"):
        jn.zoo.NormPropLSTM(4, norm=jn.CellNorms(cell=jn.LayerNorm()))
    with pytest.raises(ValueError, match=r"input_scale must be a number in .*, got -1"):
        jn.zoo.norm_prop_lstm(4, input_scale=-1.0)
