"""The assorted-time LSTM against one that keeps all activations of the window, as the published code does."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.oracles import flat, sigmoid

STEPS, BATCH, HIDDEN = 6, 3, 4


class Window:
    """A list of the last k activations (B, F); statistics over the steps and features of each example."""

    def __init__(self, k, epsilon):
        self.k, self.epsilon, self.kept = k, epsilon, []

    def __call__(self, a, affine):
        self.kept = [*self.kept, a][-self.k :]
        block = np.stack(self.kept)
        mean, var = block.mean((0, 2))[:, None], block.var((0, 2))[:, None]
        return affine.scale * (a - mean) / np.sqrt(var + self.epsilon) + affine.bias


def run(p, xs, k, epsilon):
    of_x, of_h, of_c = (Window(k, epsilon) for _ in range(3))
    c = h = np.zeros((xs.shape[1], HIDDEN))
    outputs = []
    for x in xs:
        v = of_x(x @ flat(p.kernel) + p.bias, p.norm.input)
        v = v + of_h(h @ flat(p.recurrent) + p.recurrent_bias, p.norm.recurrent)
        i, f, g, o = np.split(v, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(of_c(c, p.norm.cell))
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_it_is_the_window_over_all_activations(k, x64, rng):
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=k, epsilon=1e-3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    outputs = jn.unroll(cell, params, xs, chunk=4).outputs
    np.testing.assert_allclose(outputs, run(oracles.to_numpy(params), np.asarray(xs), k, 1e-3), rtol=1e-10)


def test_one_step_is_layer_normalization(x64, rng):
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=1)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    layer = jn.LSTM(HIDDEN, norm=jn.LayerNorm(), bias_at="each")
    same = jn.LSTMParams(
        params.kernel, params.recurrent, params.bias, params.norm, recurrent_bias=params.recurrent_bias
    )
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs).outputs, jn.unroll(layer, same, xs).outputs, rtol=1e-9, atol=1e-12
    )


@pytest.mark.heavy
def test_gradients_flow_into_the_steps_of_the_window(x64, rng):
    """With a shut forget gate and U = 0 an input reaches later outputs through the statistics only.

    Those of the products reach two steps far here, those of c two more.
    """
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    params = params._replace(recurrent=0.0 * params.recurrent)
    shut = params.norm.input._replace(bias=params.norm.input.bias.at[HIDDEN : 2 * HIDDEN].set(-60.0))
    params = params._replace(norm=params.norm._replace(input=shut))
    xs = cases.random_inputs(rng, STEPS, (1,), jnp.float64)

    def output(xs, t):
        return jn.unroll(cell, params, xs, chunk=2).outputs[t].sum()

    gradient = jax.jit(jax.grad(output), static_argnums=1)
    third, fifth, sixth = (np.asarray(gradient(xs, t)) for t in (2, 4, 5))
    assert np.abs(third[0]).max() > 1e-3
    assert np.abs(fifth[0]).max() > 1e-6
    assert np.abs(sixth[0]).max() < 1e-15
    step = 1e-6
    moved = [output(xs.at[0, 0, 1].add(sign * step), 2) for sign in (1, -1)]
    np.testing.assert_allclose(third[0, 0, 1], (moved[0] - moved[1]) / (2 * step), rtol=1e-5)


def test_a_masked_step_is_not_remembered(x64, rng):
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 4, (BATCH,), jnp.float64)
    holes = jnp.insert(xs, 2, jnp.nan, axis=0)
    where = jnp.ones((5, BATCH), bool).at[2].set(False)
    got = jn.unroll(cell, params, holes, where=where)
    expected = jn.unroll(cell, params, xs)
    np.testing.assert_allclose(got.outputs[jnp.array([0, 1, 3, 4])], expected.outputs, rtol=1e-12)
    for a, b in zip(got.carry, expected.carry, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_fresh_weights_learned_carry_and_memory(key):
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=3, learn_carry=True)
    params = cell.init(key, 20)
    np.testing.assert_array_equal(params.recurrent, np.repeat(np.eye(HIDDEN)[:, None], 4, axis=1))
    wide = flat(np.asarray(params.kernel))
    np.testing.assert_allclose(wide.T @ wide, np.eye(4 * HIDDEN), atol=1e-5)
    carry = cell.initial_carry((2,), params=params)
    assert [leaf.shape for leaf in carry] == [(2, 4), (2, 4), (2, 6), (2, 6), (2, 2)]
    assert not any(leaf.any() for leaf in carry)
    assert len(jax.tree.leaves(params.carry)) == 2
    assert jn.unroll(cell, params, jnp.ones((2, 2, 20))).outputs.shape == (2, 2, HIDDEN)


def test_windows_without_spread_give_finite_gradients():
    cell = jn.zoo.assorted_time_lstm(HIDDEN, steps=3, epsilon=0.0)
    params = jax.tree.map(jnp.ones_like, cell.init(jax.random.key(0), 3))
    gradients = jax.jit(jax.grad(lambda p: jn.unroll(cell, p, jnp.ones((4, 2, 3))).outputs.sum()))(params)
    chex.assert_tree_all_finite(gradients)


def test_errors():
    with pytest.raises(ValueError, match=r"AssortedTimeLSTM: steps must be a positive integer, got 0"):
        jn.zoo.assorted_time_lstm(4, steps=0)
    with pytest.raises(ValueError, match=r"AssortedTimeLSTM: there is no site 'cell', only none"):
        jn.zoo.AssortedTimeLSTM(4, norm=jn.CellNorms(cell=jn.LayerNorm()))
