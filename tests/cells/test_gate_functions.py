"""Cells with other functions than the logistic one and tanh: NumPy loops, Flax, and other names of the usual pair."""

import dataclasses
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from jaxnorm.engine.unroll import _unroll
from tests.tools.annotations import no_annotation_checks

T, B, F, H = 4, 2, 3, 5


def shifted(x):
    """A gate function without symmetry: one minus its value is not its value at minus x."""
    return jax.nn.sigmoid(0.5 * x + 0.3)


NUMPY = {
    jax.nn.sigmoid: lambda x: 1 / (1 + np.exp(-x)),
    jnp.tanh: np.tanh,
    jax.nn.hard_sigmoid: lambda x: np.clip(x / 6 + 0.5, 0, 1),
    jax.nn.relu: lambda x: np.maximum(x, 0),
    jax.nn.soft_sign: lambda x: x / (1 + np.abs(x)),
    shifted: lambda x: 1 / (1 + np.exp(-(0.5 * x + 0.3))),
}
PAIRS = [
    (jax.nn.hard_sigmoid, jax.nn.soft_sign),
    (jax.nn.sigmoid, jax.nn.relu),
    (shifted, jnp.tanh),
]


def layer(v):
    return (v - v.mean(-1, keepdims=True)) / np.sqrt(v.var(-1, keepdims=True) + 1e-5)


def affine(norm, v):
    return layer(v) * norm.scale + norm.bias


def lstm(s, phi, p, xs):
    c = h = np.zeros((B, H))
    for x in xs:
        a = affine(p.norm.input, x @ p.kernel.reshape(F, -1)) + affine(p.norm.recurrent, h @ p.recurrent.reshape(H, -1))
        i, f, g, o = np.split(a + p.bias, 4, -1)
        c = s(f) * c + s(i) * phi(g)
        h = s(o) * phi(affine(p.norm.cell, c))
        yield h


def coupled(s, phi, p, xs):
    c = h = np.zeros((B, H))
    for x in xs:
        i, g, o = np.split(x @ p.kernel.reshape(F, -1) + h @ p.recurrent.reshape(H, -1) + p.bias, 3, -1)
        c = (1 - s(i)) * c + s(i) * phi(g)
        h = s(o) * phi(c)
        yield h


def peephole(s, phi, p, xs):
    c = h = np.zeros((B, H))
    of_i, of_f, of_o = np.split(p.peephole, 3)
    for x in xs:
        i, f, g, o = np.split(x @ p.kernel.reshape(F, -1) + h @ p.recurrent.reshape(H, -1) + p.bias, 4, -1)
        c = s(f + of_f * c) * c + s(i + of_i * c) * phi(g)
        h = s(o + of_o * c) * phi(c)
        yield h


def projected(s, phi, p, xs):
    c, h = np.zeros((B, H)), np.zeros((B, 2))
    for x in xs:
        i, f, g, o = np.split(x @ p.kernel.reshape(F, -1) + h @ p.recurrent.reshape(2, -1) + p.bias, 4, -1)
        c = s(f) * c + s(i) * phi(g)
        h = (s(o) * phi(c)) @ p.projection
        yield h


def integrated(m, w, u, bias):
    return m.alpha * w * u + m.beta1 * u + m.beta2 * w + bias


def mi_lstm(s, phi, p, xs):
    c = h = np.zeros((B, H))
    for x in xs:
        both = x @ p.kernel.reshape(F, -1), h @ p.recurrent.reshape(H, -1)
        i, f, g, o = np.split(integrated(p.integration, *both, p.bias), 4, -1)
        c = s(f) * c + s(i) * phi(g)
        h = s(o) * phi(c)
        yield h


def gru(s, phi, p, xs, renew=False, whole=False):
    h = np.zeros((B, H))
    for x in xs:
        r_x, z_x, n_x = np.split(x @ p.kernel.reshape(F, -1) + p.bias, 3, -1)
        r_h, z_h, n_h = np.split(h @ p.recurrent.reshape(H, -1) + (0 if whole else p.recurrent_bias), 3, -1)
        r, z = s(r_x + r_h), s(z_x + z_h)
        n = phi(r * (n_x + n_h) if whole else n_x + r * n_h)
        h = (1 - z) * h + z * n if renew else (1 - z) * n + z * h
        yield h


def reset_before(s, phi, p, xs, renew=True):
    h = np.zeros((B, H))
    for x in xs:
        x_r, x_z, x_n = np.split(x @ p.kernel.reshape(F, -1) + p.bias, 3, -1)
        r, z = s(x_r + h @ p.recurrent[:, 0]), s(x_z + h @ p.recurrent[:, 1])
        n = phi(x_n + (r * h) @ p.recurrent[:, 2])
        h = (1 - z) * h + z * n if renew else (1 - z) * n + z * h
        yield h


def mi_gru(s, phi, p, xs):
    h = np.zeros((B, H))
    m = [type(p.integration)(*(np.split(leaf, 3)[k] for leaf in p.integration)) for k in range(3)]
    b = np.split(p.bias, 3)
    for x in xs:
        r, z = (s(integrated(m[k], x @ p.kernel[:, k], h @ p.recurrent[:, k], b[k])) for k in (0, 1))
        n = phi(integrated(m[2], x @ p.kernel[:, 2], (r * h) @ p.recurrent[:, 2], b[2]))
        h = (1 - z) * h + z * n
        yield h


def ligru(s, phi, p, xs):
    h = np.zeros((B, H))
    for x in xs:
        z, n = np.split(x @ p.kernel.reshape(F, -1) + h @ p.recurrent.reshape(H, -1) + p.bias, 2, -1)
        h = s(z) * h + (1 - s(z)) * phi(n)
        yield h


CELLS = {
    "lstm": (jn.LSTM(H, norm=jn.LayerNorm()), lstm),
    "coupled": (jn.zoo.CoupledLSTM(H), coupled),
    "peephole": (jn.zoo.PeepholeLSTM(H), peephole),
    "projected": (jn.zoo.ProjectedLSTM(H, 2), projected),
    "mi_lstm": (jn.zoo.MILSTM(H), mi_lstm),
    "gru": (jn.GRU(H), gru),
    "gru, renew": (jn.GRU(H, update_gate="renew"), lambda *a: gru(*a, renew=True)),
    "gru, candidate": (jn.GRU(H, reset="candidate"), lambda *a: gru(*a, whole=True)),
    "concatenated": (jn.zoo.ConcatenatedGRU(H), lambda *a: gru(*a, renew=True, whole=True)),
    "reset before": (jn.zoo.ResetBeforeGRU(H, update_gate="renew"), reset_before),
    "mi_gru": (jn.zoo.MIGRU(H), mi_gru),
    "ligru": (jn.zoo.LiGRU(H, norm=jn.Identity()), ligru),
}


def random_params(cell, rng):
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), cell.init(jax.random.key(0), F))


def with_functions(cell, gate_fn, activation_fn):
    return dataclasses.replace(cell, gate_fn=gate_fn, activation_fn=activation_fn)


@pytest.mark.parametrize("name", CELLS)
def test_equations_with_other_functions(rng, name):
    for pair in PAIRS if name in ("lstm", "gru") else PAIRS[2:]:
        check_equations(rng, *CELLS[name], pair)


def check_equations(rng, cell, equations, pair):
    cell = with_functions(cell, *pair)
    params, xs = random_params(cell, rng), rng.standard_normal((T, B, F))
    expected = np.stack(list(equations(*map(NUMPY.get, pair), jax.tree.map(lambda a: np.asarray(a, "d"), params), xs)))
    outputs = jn.unroll(cell, params, jnp.asarray(xs, jnp.float32)).outputs
    np.testing.assert_allclose(outputs, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("cell", [jn.LSTM(H, norm=jn.LayerNorm()), jn.GRU(H, update_gate="renew")], ids=["lstm", "gru"])
def test_both_methods_give_the_derivatives_of_finite_differences(rng, cell):
    cell = with_functions(cell, shifted, jax.nn.soft_sign)
    params, direction = random_params(cell, rng), random_params(cell, rng)
    xs = jnp.asarray(rng.standard_normal((T, B, F)), jnp.float32)

    def loss(params, method):
        return jnp.sum(jnp.sin(jn.unroll(cell, params, xs, method=method).outputs))

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), (params, direction))
        xs64, step = jnp.asarray(np.asarray(xs), jnp.float64), 1e-5
        ends = (jax.tree.map(lambda p, d, s=s: p + s * step * d, *wide) for s in (1, -1))
        high, low = (jnp.sum(jnp.sin(jn.unroll(cell, p, xs64).outputs)).item() for p in ends)
    for method in ("chunked", "scan"):
        gradient = jax.grad(loss)(params, method)
        along = sum(jnp.vdot(g, d).item() for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        assert along == pytest.approx((high - low) / (2 * step), rel=2e-4)


def test_the_scale_of_a_recurrent_dropout_multiplies_the_candidate(rng):
    """Derivatives by hand and automatic ones agree, with the same masks."""
    xs = jnp.asarray(rng.standard_normal((T, B, F)), jnp.float32)
    for cell in (jn.LSTM(H), jn.GRU(H), jn.zoo.CoupledLSTM(H), jn.zoo.ResetBeforeGRU(H, update_gate="renew")):
        params = random_params(cell, rng)
        usual, other = (
            jn.RecurrentDropout(each, rate=0.4)
            for each in (cell, with_functions(cell, lambda x: jax.nn.sigmoid(x), lambda x: jnp.tanh(x)))
        )

        def loss(params, cell):
            return jnp.sum(jnp.sin(jn.unroll(cell, params, xs, key=jax.random.key(1)).outputs))

        a, b = (jax.tree.leaves(jax.value_and_grad(loss)(params, each)) for each in (usual, other))
        for ours, theirs in zip(a, b, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-".join(f.__name__ for f in pair))
def test_flax_computes_the_same(rng, pair):
    gate_fn, activation_fn = pair
    x = jnp.asarray(rng.standard_normal((B, T, F)), jnp.float32)
    for module in (nn.OptimizedLSTMCell, nn.GRUCell):
        rnn = nn.RNN(module(H, gate_fn=gate_fn, activation_fn=activation_fn))
        variables = jax.tree.map(
            lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), rnn.init(jax.random.key(0), x)
        )
        found = convert.linen.load(variables, rnn)
        assert (found.spec.gate_fn, found.spec.activation_fn) == pair
        ours = jn.unroll(found.spec, found.params, x, time_axis=-2).outputs
        np.testing.assert_allclose(ours, rnn.apply(variables, x), rtol=1e-4, atol=1e-5)


def test_other_names_of_the_usual_functions_make_the_same_spec():
    for gate_fn in (jax.nn.sigmoid, nn.sigmoid, jax.lax.logistic):
        for activation_fn in (jnp.tanh, jax.nn.tanh, nn.tanh, jax.lax.tanh):
            assert jn.lstm(H, gate_fn=gate_fn, activation_fn=activation_fn) == jn.lstm(H)
            assert jn.ln_gru(H, gate_fn=gate_fn, activation_fn=activation_fn) == jn.ln_gru(H)
    assert jn.elman(H, activation_fn=jax.lax.tanh) == jn.elman(H)
    assert jn.lstm(H, gate_fn=jax.nn.hard_sigmoid) != jn.lstm(H)
    assert hash(jn.lstm(H, gate_fn=jax.nn.hard_sigmoid)) == hash(jn.lstm(H, gate_fn=jax.nn.hard_sigmoid))


def test_a_function_is_in_a_pickle_by_its_name():
    for cell in (jn.ln_lstm(H, gate_fn=jax.nn.hard_sigmoid, activation_fn=jax.nn.relu), jn.gru(H, gate_fn=shifted)):
        assert pickle.loads(pickle.dumps(cell)) == cell


def test_a_function_of_ones_own_compiles_once(rng):
    params, xs = jn.lstm(H).init(jax.random.key(0), F), jnp.ones((T, B, F))
    _unroll.clear_cache()
    for _ in range(3):
        jn.unroll(jn.lstm(H, gate_fn=shifted), params, xs)
    assert _unroll._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (
            {"gate_fn": "hard_sigmoid"},
            TypeError,
            r"LSTM: gate_fn must be a hashable function of one array, got the string ",
        ),
        ({"gate_fn": "hard_sigmoid"}, TypeError, r"Write gate_fn=jax\.nn\.hard_sigmoid"),
        ({"activation_fn": None}, TypeError, "LSTM: activation_fn must be a hashable function of one array, got None"),
        ({"activation_fn": jnp.maximum}, TypeError, "activation_fn must be a hashable function of one array"),
        ({"activation_fn": jax.nn.glu}, (TypeError, ValueError), "activation_fn must"),
        ({"gate_fn": lambda x: x.sum()}, ValueError, "gate_fn must act on each element alone"),
    ],
)
def test_what_is_no_function_of_elements_is_refused(options, error, match):
    with no_annotation_checks(), pytest.raises(error, match=match):
        jn.lstm(H, **options)
