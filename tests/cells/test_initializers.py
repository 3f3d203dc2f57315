"""Initializers of biases and of kernels: what they draw, and where a cell puts it."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.cells.initializers import Chrono, Scaled, Uniform, eye, orthogonal
from tests.cells.oracles import by_gate

T = 50
HIDDEN = 400


def test_chrono_is_the_logarithm_of_an_even_distribution(key):
    """Tallec and Ollivier: exp(b) is U(1, T - 1)."""
    u = np.sort(np.exp(np.asarray(Chrono(T)(key, (HIDDEN,)))))
    assert u[0] >= 1.0
    assert u[-1] <= T - 1
    expected = 1 + (T - 2) * (np.arange(HIDDEN) + 0.5) / HIDDEN
    assert np.max(np.abs(u - expected)) / (T - 2) < 1.63 / HIDDEN**0.5  # Kolmogorov and Smirnov, one in a hundred
    np.testing.assert_array_equal(Chrono(T, opposite=True)(key, (HIDDEN,)), -Chrono(T)(key, (HIDDEN,)))
    assert Chrono(2)(key, (3,), jnp.bfloat16).tolist() == [0.0] * 3


def test_chrono_of_an_lstm_is_in_both_gates(key):
    plain, cell = jn.LSTM(4), jn.LSTM(4, forget_bias=Chrono(T), input_bias="opposite")
    params = cell.init(key, 3)
    i, f, g, o = by_gate(params.bias, 4)
    np.testing.assert_array_equal(i, -f)
    assert np.all((f >= 0) & (f <= math.log(T - 1)))
    assert len(set(f.tolist())) == 4
    assert not np.any(jnp.stack([g, o]))
    np.testing.assert_array_equal(params.kernel, plain.init(key, 3).kernel)  # other draws stay what they were
    without = jn.ln_lstm(4, forget_bias=Chrono(T), input_bias="opposite", use_bias=False).init(key, 3)
    np.testing.assert_array_equal(without.norm.recurrent.bias, params.bias)
    assert not np.any(jn.LSTM(4, forget_bias=Chrono(T)).init(key, 3).bias[:4])


@pytest.mark.parametrize(
    ("cell", "gate", "sign"),
    [
        (jn.GRU(4, update_bias=Chrono(T)), 1, 1),
        (jn.ln_gru(4, update_bias=Chrono(T, opposite=True)), 1, -1),
        (jn.zoo.LiGRU(4, update_bias=Chrono(T)), 0, 1),
        (jn.zoo.MinGRU(4, update_bias=Chrono(T, opposite=True)), 0, -1),
        (jn.zoo.PeepholeLSTM(4, forget_bias=Chrono(T)), 1, 1),
        (jn.zoo.ProjectedLSTM(4, 2, forget_bias=Chrono(T)), 1, 1),
        (jn.zoo.MILSTM(4, forget_bias=Chrono(T)), 1, 1),
        (jn.zoo.CoupledLSTM(4, forget_bias=Chrono(T)), 0, -1),  # the gate that has weights is the input gate
        (jn.zoo.ResetBeforeGRU(4, update_bias=Chrono(T)), 1, 1),
        (jn.zoo.ConcatenatedGRU(4, update_bias=Chrono(T)), 1, 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_chrono_of_a_gate_that_keeps_or_renews(cell, gate, sign, key):
    bias = by_gate(cell.init(key, 3).bias, cell.gate_count)
    assert np.all((sign * bias[gate] >= 0) & (sign * bias[gate] <= math.log(T - 1)))
    assert len(set(bias[gate].tolist())) == 4
    assert not np.any(np.delete(np.asarray(bias), gate, axis=0))


def test_a_unit_forgets_over_as_many_steps_as_chrono_says(x64):
    """What an LSTM keeps over t steps without input is (1 - 1 / (u + 1)) to the power of t."""
    u = jnp.array([1.0, 9.0, 99.0])
    cell = jn.LSTM(3, dtype=jnp.float64)
    params = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape), jax.eval_shape(lambda k: cell.init(k, 1), jax.random.key(0))
    )
    params = params._replace(bias=params.bias.at[3:6].set(jnp.log(u)))
    c = jn.unroll(cell, params, jnp.zeros((10, 1)), carry=jn.LSTMCarry(jnp.ones(3), jnp.zeros(3))).carry.c
    np.testing.assert_allclose(c, (1 - 1 / (u + 1)) ** 10, rtol=1e-10)


def test_scaled(key):
    np.testing.assert_allclose(Scaled(eye, 0.01)(key, (2, 3)), [[0.01, 0, 0], [0, 0.01, 0]])
    np.testing.assert_allclose(Scaled(orthogonal, 1.1)(key, (3, 3)), 1.1 * orthogonal(key, (3, 3)), rtol=1e-6)
    assert Scaled(eye, 0.3)(key, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16
    irnn = jn.Elman(4, activation_fn=jax.nn.relu, recurrent_init=Scaled(eye, 0.5)).init(key, 3)
    np.testing.assert_allclose(irnn.recurrent, 0.5 * np.eye(4))


def test_they_are_values():
    for one in (Chrono(9), Scaled(eye, 0.5), Uniform(-1.0, 1.0), jn.initializers.PowerLaw(0.5)):
        assert pickle.loads(pickle.dumps(one)) == one
        assert hash(one) == hash(pickle.loads(pickle.dumps(one)))
    assert jn.LSTM(4, forget_bias=Chrono(9)) == jn.LSTM(4, forget_bias=Chrono(9))


def test_errors():
    with pytest.raises(ValueError, match="Chrono: max_steps must be at least 2, got 1"):
        Chrono(1)


def test_chrono_of_the_gates_of_a_block_gru(key):
    bias = by_gate(jn.zoo.BlockGRU(4, blocks=2, update_bias=Chrono(T)).init(key, 3).gates_bias, 3)
    assert np.all((bias[1] >= 0) & (bias[1] <= math.log(T - 1)))
    assert len(set(bias[1].tolist())) == 4
    assert not np.any(np.delete(np.asarray(bias), 1, axis=0))
