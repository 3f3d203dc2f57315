"""The LSTM with coupled gates: its equation in NumPy, and its place among LSTMs."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import flat, sigmoid
from tests.zoo.cells.relative_tools import HIDDEN, bn, check_equation, ln


def step(p, carry, x, normalize):
    """Greff et al., CIFG without peepholes; ``normalize(site, v)``."""
    c, h = carry
    gates = normalize("input", x @ flat(p.kernel)) + normalize("recurrent", h @ flat(p.recurrent))
    i, g, o = np.split(normalize("summed", gates) + p.bias, 3, axis=-1)
    c = (1 - sigmoid(i)) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalize("cell", c))
    return (c, h), h


@pytest.mark.parametrize(
    ("norm", "spec", "there"),
    [
        (ln, jn.LayerNorm(), ()),
        (ln, jn.LayerNorm(), ("input", "recurrent", "cell")),
        (bn, jn.BatchNorm(), ("summed", "cell")),
    ],
)
def test_coupled_lstm_is_its_equation(norm, spec, there, x64, rng):
    cell = jn.zoo.CoupledLSTM(HIDDEN, norm=jn.CellNorms(**dict.fromkeys(there, spec)))
    check_equation(
        cell,
        lambda p, carry, x: step(p, carry, x, lambda s, v: norm(v, getattr(p.norm, s)) if s in there else v),
        rng,
    )


def test_it_is_the_lstm_with_the_forget_gate_turned(rng):
    """f of the LSTM gets the weights of i with the other sign."""
    coupled, plain = jn.zoo.CoupledLSTM(HIDDEN), jn.lstm(HIDDEN)
    params = cases.random_cell_params(coupled, rng)

    def spread(leaf, axis):
        i, g, o = jnp.split(leaf, 3, axis)
        return jnp.concatenate([i, -i, g, o], axis)

    kernel, recurrent = (spread(leaf, -2) for leaf in (params.kernel, params.recurrent))
    same = jn.LSTMParams(kernel, recurrent, spread(params.bias, -1), params.norm)
    xs = cases.random_inputs(rng)
    np.testing.assert_allclose(
        jn.unroll(coupled, params, xs).outputs, jn.unroll(plain, same, xs).outputs, rtol=1e-5, atol=1e-6
    )


def test_the_forget_bias_is_that_of_the_gate_that_forgets(key):
    params = jn.zoo.CoupledLSTM(HIDDEN, forget_bias=1.5).init(key, 3)
    np.testing.assert_array_equal(params.bias, np.repeat([-1.5, 0.0, 0.0], HIDDEN))
    normalized = jn.zoo.CoupledLSTM(HIDDEN, norm=jn.LayerNorm(), use_bias=False).init(key, 3)
    np.testing.assert_array_equal(normalized.norm.recurrent.bias, np.repeat([-1.0, 0.0, 0.0], HIDDEN))


def test_errors():
    with pytest.raises(ValueError, match="CoupledLSTM: gate_groups must be a tuple of positive sizes that add up to 3"):
        jn.zoo.CoupledLSTM(HIDDEN, gate_groups=(4,))
