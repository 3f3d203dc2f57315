"""The LSTM with peepholes: its equation in NumPy, and which c each peephole sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import flat, sigmoid
from tests.zoo.cells.relative_tools import HIDDEN, check_equation, ln

LN = jn.LayerNorm()


def step(p, carry, x, normalize, o_sees="new"):
    """Graves 2013; ``normalize(site, v)``."""
    c, h = carry
    w_ci, w_cf, w_co = np.split(p.peephole, 3)
    gates = normalize("input", x @ flat(p.kernel)) + normalize("recurrent", h @ flat(p.recurrent))
    i, f, g, o = np.split(normalize("summed", gates) + p.bias, 4, axis=-1)
    new = sigmoid(f + w_cf * c) * c + sigmoid(i + w_ci * c) * np.tanh(g)
    o = sigmoid(o + w_co * (new if o_sees == "new" else c))
    return (new, o * np.tanh(normalize("cell", new))), o * np.tanh(normalize("cell", new))


def at(there, p):
    return lambda site, v: ln(v, getattr(p.norm, site)) if site in there else v


@pytest.mark.parametrize("there", [(), ("input", "recurrent", "cell"), ("summed",)])
def test_peephole_lstm_is_its_equation(there, x64, rng):
    cell = jn.zoo.PeepholeLSTM(HIDDEN, norm=jn.CellNorms(**dict.fromkeys(there, LN)))
    check_equation(cell, lambda p, carry, x: step(p, carry, x, at(there, p)), rng)
    with pytest.raises(AssertionError):
        check_equation(cell, lambda p, carry, x: step(p, carry, x, at(there, p), o_sees="old"), rng)


def test_without_weights_in_the_peepholes_it_is_the_lstm(rng, key):
    cell, plain = jn.zoo.PeepholeLSTM(HIDDEN, norm=LN), jn.LSTM(HIDDEN, norm=LN)
    assert not jnp.any(cell.init(key, 3).peephole)
    params = cases.random_cell_params(cell, rng)
    params = params._replace(peephole=jnp.zeros(3 * HIDDEN))
    same = jn.LSTMParams(params.kernel, params.recurrent, params.bias, params.norm)
    xs = cases.random_inputs(rng)
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs).outputs, jn.unroll(plain, same, xs).outputs, rtol=1e-6, atol=1e-7
    )


def test_fresh_weights(key):
    cell = jn.zoo.PeepholeLSTM(HIDDEN, forget_bias=2.0, peephole_init=jax.nn.initializers.ones)
    params = cell.init(key, 3)
    np.testing.assert_array_equal(params.peephole, np.ones(3 * HIDDEN))
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 2.0, 0.0, 0.0], HIDDEN))


def test_errors():
    with pytest.raises(ValueError, match="PeepholeLSTM: gate_groups must be a tuple"):
        jn.zoo.PeepholeLSTM(HIDDEN, gate_groups=(3,))
