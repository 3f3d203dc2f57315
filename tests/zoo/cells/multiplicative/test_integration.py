"""Multiplicative integration: the equations of the three cells in NumPy, and what is left when terms are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import flat, sigmoid
from tests.zoo.cells.relative_tools import HIDDEN, bn, check_equation, ln, part

LN, BN = jn.LayerNorm(), jn.BatchNorm()
NORMS = {"plain": (None, jn.Identity()), "ln": (ln, LN), "bn": (bn, BN)}
TERMS = {"general": {}, "simple": {"beta1_init": None, "beta2_init": None}, "no beta1": {"beta1_init": None}}


def integrate(p, w, u, gates=slice(None)):
    """Wu et al.: alpha w u + beta1 u + beta2 w + b, with the features of some gates."""

    def vector(v):
        return 0.0 if v is None else v[gates]

    alpha, beta1, beta2 = map(vector, p.integration)
    return alpha * w * u + beta1 * u + beta2 * w + vector(p.bias)


def normalized(norm, v, affine):
    return v if norm is None else norm(v, affine)


def rnn_step(norm, p, carry, x):
    w = normalized(norm, x @ p.kernel, p.norm.input)
    u = normalized(norm, carry[0] @ p.recurrent, p.norm.recurrent)
    h = np.tanh(integrate(p, w, u))
    return (h,), h


def lstm_step(norm, p, carry, x):
    c, h = carry
    w = normalized(norm, x @ flat(p.kernel), p.norm.input)
    u = normalized(norm, h @ flat(p.recurrent), p.norm.recurrent)
    i, f, g, o = np.split(integrate(p, w, u), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(normalized(norm, c, p.norm.cell))
    return (c, h), h


def gru_step(norm, p, carry, x, keep=False):
    (h,) = carry

    def gate(first, last, state):
        gates, features, sides = slice(first, last), slice(first * HIDDEN, last * HIDDEN), []
        for v, kernel, site in ((x, p.kernel, "input"), (state, p.recurrent, "recurrent")):
            affine = None if norm is None else part(getattr(p.norm, site), features)
            sides.append(normalized(norm, v @ flat(kernel[:, gates]), affine))
        return integrate(p, *sides, features)

    r, z = np.split(sigmoid(gate(0, 2, h)), 2, axis=-1)
    n = np.tanh(gate(2, 3, r * h))
    h = (1 - z) * n + z * h if keep else (1 - z) * h + z * n
    return (h,), h


CELLS = {"rnn": (jn.zoo.MIRNN, rnn_step), "lstm": (jn.zoo.MILSTM, lstm_step), "gru": (jn.zoo.MIGRU, gru_step)}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("norms", "terms"), [("plain", "general"), ("ln", "general"), ("bn", "no beta1")])
def test_integration_is_its_equation(name, norms, terms, x64, rng):
    spec, step = CELLS[name]
    norm, normalizer = NORMS[norms]
    cell = spec(HIDDEN, norm=normalizer, **TERMS[terms])
    check_equation(cell, lambda p, carry, x: step(norm, p, carry, x), rng)


@pytest.mark.parametrize("name", CELLS)
def test_the_simple_form_has_the_product_alone(name, x64, rng):
    spec, step = CELLS[name]
    cell = spec(HIDDEN, **TERMS["simple"])
    params = jax.eval_shape(lambda key: cell.init(key, 3), jax.random.key(0))
    assert params.integration[1:] == (None, None)
    check_equation(cell, lambda p, carry, x: step(None, p, carry, x), rng)


def test_the_update_gate_of_the_gru_may_keep(x64, rng):
    cell = jn.zoo.MIGRU(HIDDEN, update_gate="keep")
    check_equation(cell, lambda p, carry, x: gru_step(None, p, carry, x, keep=True), rng)


@pytest.mark.parametrize(
    ("mi", "plain"), [(jn.zoo.MIRNN, jn.Elman), (jn.zoo.MILSTM, jn.LSTM), (jn.zoo.MIGRU, jn.zoo.ResetBeforeGRU)]
)
def test_without_the_product_it_is_the_additive_cell(mi, plain, rng):
    """alpha = 0 and both betas 1: the sum of the two sides."""
    options = {"update_gate": "renew"} if mi is jn.zoo.MIGRU else {}
    norm = jn.CellNorms(input=LN, recurrent=LN)
    cell, additive = mi(HIDDEN, norm=norm), plain(HIDDEN, norm=norm, **options)
    params = cases.random_cell_params(cell, rng)
    ones = jnp.ones_like(params.integration.alpha)
    params = params._replace(integration=jn.zoo.IntegrationParams(0 * ones, ones, ones))
    shapes = jax.eval_shape(lambda key: additive.init(key, 3), jax.random.key(0))
    same = shapes._replace(**{name: getattr(params, name) for name in ("kernel", "recurrent", "bias", "norm")})
    xs = cases.random_inputs(rng)
    np.testing.assert_allclose(
        jn.unroll(cell, params, xs).outputs, jn.unroll(additive, same, xs).outputs, rtol=1e-5, atol=1e-6
    )


def test_fresh_weights(key):
    params = jn.zoo.MILSTM(HIDDEN, forget_bias=2.0, beta2_init=0.25).init(key, 3)
    assert [leaf.shape for leaf in params.integration] == [(4 * HIDDEN,)] * 3
    assert [float(leaf[0]) for leaf in params.integration] == [1.0, 0.5, 0.25]
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, 2.0, 0.0, 0.0], HIDDEN))
    plain = jax.eval_shape(lambda k: jn.zoo.MIRNN(HIDDEN, use_bias=False).init(k, 3), key)
    assert plain.bias is None
    assert [leaf.shape for leaf in plain.integration] == [(HIDDEN,)] * 3


def test_errors():
    with pytest.raises(ValueError, match=r"MILSTM: forget_bias=1.0 is a value of b, but use_bias is False"):
        jn.zoo.MILSTM(HIDDEN, use_bias=False)
    with pytest.raises(ValueError, match=r"MIGRU: gate_groups=\(3,\) joins the candidate"):
        jn.zoo.MIGRU(HIDDEN, gate_groups=(3,))
    with pytest.raises(ValueError, match="MIRNN: there is no site 'cell'"):
        jn.zoo.MIRNN(HIDDEN, norm=jn.CellNorms(cell=LN))
