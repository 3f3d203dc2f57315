"""Agreement with the cells of Flax, PyTorch and Keras where they compute the same thing, with random weights.

The imports are inside: PyTorch and Keras are extras, and the tests say so when they are missing.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import by_gate, flat, sigmoid
from tests.tools.peers import import_peer, lenient

pytestmark = pytest.mark.long

STEPS, BATCH, FEATURES, HIDDEN = 3, 2, cases.IN_FEATURES, 4


def ours(cell, seed=5):
    """Random weights, inputs and initial carry, and what we make of them."""
    rng = np.random.default_rng(seed)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    carry = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), cell.initial_carry((BATCH,)))
    out = jn.unroll(cell, params, xs, carry=carry)
    return jax.tree.map(np.asarray, (params, xs, carry, out))


def agree(got, expected):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=1e-5, atol=2e-6)


def fill(module, **values):
    """Copies arrays into the weights of a torch module, transposed as it keeps them; the rest must be zero."""
    torch = importlib.import_module("torch")
    with torch.no_grad():
        for name, weights in module.named_parameters():
            weights.copy_(torch.tensor(np.array(values[name.removesuffix("_l0")])))


def test_torch_lstm():
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.lstm(HIDDEN))
    module = torch.nn.LSTM(FEATURES, HIDDEN)
    rest = np.linspace(-1, 1, 4 * HIDDEN, dtype=np.float32)
    fill(
        module,
        weight_ih=flat(params.kernel).T,
        weight_hh=flat(params.recurrent).T,
        bias_ih=params.bias - rest,  # it has two biases, whose sum is our one
        bias_hh=rest,
    )
    state = (torch.tensor(carry.h)[None], torch.tensor(carry.c)[None])
    ys, (h, c) = module(torch.tensor(xs), state)
    agree(ys.detach(), out.outputs)
    agree(h[0].detach(), out.carry.h)
    agree(c[0].detach(), out.carry.c)


def test_torch_gru():
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.gru(HIDDEN))
    module = torch.nn.GRU(FEATURES, HIDDEN)
    fill(
        module,
        weight_ih=flat(params.kernel).T,
        weight_hh=flat(params.recurrent).T,
        bias_ih=params.bias,
        bias_hh=params.recurrent_bias,
    )
    ys, _ = module(torch.tensor(xs), torch.tensor(carry.h)[None])
    agree(ys.detach(), out.outputs)


def test_torch_rnn():
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.elman(HIDDEN))
    module = torch.nn.RNN(FEATURES, HIDDEN)
    fill(
        module,
        weight_ih=params.kernel.T,
        weight_hh=params.recurrent.T,
        bias_ih=params.bias,
        bias_hh=np.zeros(HIDDEN, np.float32),
    )
    ys, _ = module(torch.tensor(xs), torch.tensor(carry.h)[None])
    agree(ys.detach(), out.outputs)


def test_torch_ln_lstm():
    """The cell of its benchmarks, put together from its own layer norms."""
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.zoo.fastrnns_ln_lstm(HIDDEN))
    kernel, recurrent = (torch.tensor(flat(w)) for w in (params.kernel, params.recurrent))
    norms = [torch.nn.LayerNorm(size) for size in (4 * HIDDEN, 4 * HIDDEN, HIDDEN)]
    weights = (params.norm.input, params.norm.recurrent, params.norm.cell)
    for norm, affine in zip(norms, weights, strict=True):
        fill(norm, weight=affine.scale, bias=affine.bias)
    h, c = torch.tensor(carry.h), torch.tensor(carry.c)
    for x, y in zip(torch.tensor(xs), out.outputs, strict=True):
        i, f, g, o = (norms[0](x @ kernel) + norms[1](h @ recurrent)).chunk(4, 1)
        c = norms[2](torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
        h = torch.sigmoid(o) * torch.tanh(c)
        agree(h.detach(), y)
    agree(c.detach(), out.carry.c)


def test_torch_ln_gru_of_haste():
    """The reference that Haste runs where there is no GPU: one layer norm over all gates for each product."""
    torch = import_peer("torch")
    params, xs, carry, out = ours(jn.zoo.haste_ln_gru(HIDDEN))
    places = (1, 0, 2)  # its z r g is our r z n

    def product(v, weights, affine, bias):
        v = torch.nn.functional.layer_norm(v @ weights, (3 * HIDDEN,), weight=torch.tensor(order(affine.scale, places)))
        return (v + torch.tensor(order(bias, places))).chunk(3, 1)

    kernel, recurrent = (torch.tensor(order(w, places)) for w in (params.kernel, params.recurrent))
    h = torch.tensor(carry.h)
    for x, y in zip(torch.tensor(xs), out.outputs, strict=True):
        z_x, r_x, g_x = product(x, kernel, params.norm.input, params.bias)
        z_h, r_h, g_h = product(h, recurrent, params.norm.recurrent, params.recurrent_bias)
        z = torch.sigmoid(z_x + z_h)
        h = z * h + (1 - z) * torch.tanh(g_x + torch.sigmoid(r_x + r_h) * g_h)
        agree(h, y)


def order(weights, places):
    """Gates in another order, side by side."""
    gates = by_gate(weights, len(places)) if weights.ndim == 1 else weights
    return flat(gates[..., list(places), :])


def run_keras(layer, weights, xs, state):
    """Builds a Keras layer, gives it weights, and runs it over time-major inputs."""
    layer.build((BATCH, STEPS, FEATURES))
    layer.set_weights(weights)
    ys = layer(np.moveaxis(xs, 0, 1), initial_state=[np.asarray(s) for s in state])
    return np.moveaxis(np.asarray(ys), 1, 0)


def test_keras_lstm():
    keras = import_peer("keras")
    params, xs, carry, out = ours(jn.lstm(HIDDEN))
    places = (0, 1, 2, 3)  # its i f c o is our i f g o
    with lenient():
        weights = [order(w, places) for w in (params.kernel, params.recurrent, params.bias)]
        agree(run_keras(keras.layers.LSTM(HIDDEN, return_sequences=True), weights, xs, (carry.h, carry.c)), out.outputs)


def test_keras_gru():
    keras = import_peer("keras")
    params, xs, carry, out = ours(jn.gru(HIDDEN))
    places = (1, 0, 2)  # its z r h is our r z n
    biases = np.stack([order(params.bias, places), order(params.recurrent_bias, places)])
    with lenient():
        weights = [order(params.kernel, places), order(params.recurrent, places), biases]
        layer = keras.layers.GRU(HIDDEN, return_sequences=True, reset_after=True)
        agree(run_keras(layer, weights, xs, (carry.h,)), out.outputs)


def test_keras_ln_lstm_of_tensorflow_addons():
    """Its layers in the wiring of the Addons, whose gates i f c o are our i f g o."""
    keras = import_peer("keras")
    params, xs, carry, out = ours(jn.zoo.tfa_ln_lstm(HIDDEN))
    with lenient():
        norms = [keras.layers.LayerNormalization(epsilon=1e-3) for _ in range(3)]
        for norm, affine in zip(norms, (params.norm.input, params.norm.recurrent, params.norm.cell), strict=True):
            norm.build((BATCH, affine.scale.size))
            norm.set_weights([affine.scale, affine.bias])
        h, c = np.asarray(carry.h), np.asarray(carry.c)
        for x, y in zip(xs, out.outputs, strict=True):
            z = np.asarray(norms[0](x @ flat(params.kernel))) + np.asarray(norms[1](h @ flat(params.recurrent)))
            i, f, g, o = np.split(z + params.bias, 4, axis=1)
            c = np.asarray(norms[2](sigmoid(f) * c + sigmoid(i) * np.tanh(g)))
            h = sigmoid(o) * np.tanh(c)
            agree(h, y)


def test_keras_simple_rnn():
    keras = import_peer("keras")
    params, xs, carry, out = ours(jn.elman(HIDDEN))
    with lenient():
        weights = [params.kernel, params.recurrent, params.bias]
        agree(run_keras(keras.layers.SimpleRNN(HIDDEN, return_sequences=True), weights, xs, (carry.h,)), out.outputs)


def run_linen(cell, weights, xs, carry):
    outputs = []
    for x in xs:
        carry, y = cell.apply({"params": weights}, carry, x)
        outputs.append(y)
    return np.stack(outputs)


def test_linen_lstm():
    params, xs, carry, out = ours(jn.lstm(HIDDEN))
    weights = {}
    for gate, letter in enumerate("ifgo"):
        weights["i" + letter] = {"kernel": params.kernel[:, gate]}
        weights["h" + letter] = {"kernel": params.recurrent[:, gate], "bias": by_gate(params.bias, 4)[gate]}
    with lenient():
        agree(run_linen(linen.LSTMCell(HIDDEN), weights, xs, tuple(carry)), out.outputs)


def test_linen_gru():
    """It has a recurrent bias at the candidate only."""
    params, xs, carry, _ = ours(jn.gru(HIDDEN))
    params = params._replace(recurrent_bias=params.recurrent_bias * np.repeat(np.float32([0, 0, 1]), HIDDEN))
    weights = {}
    for gate, letter in enumerate("rzn"):
        weights["i" + letter] = {"kernel": params.kernel[:, gate], "bias": by_gate(params.bias, 3)[gate]}
        weights["h" + letter] = {"kernel": params.recurrent[:, gate]}
    weights["hn"]["bias"] = by_gate(params.recurrent_bias, 3)[2]
    expected = jn.unroll(jn.gru(HIDDEN), jax.tree.map(jnp.asarray, params), jnp.asarray(xs), carry=carry).outputs
    with lenient():
        agree(run_linen(linen.GRUCell(HIDDEN), weights, xs, carry.h), expected)


def test_linen_simple_cell():
    params, xs, carry, out = ours(jn.elman(HIDDEN))
    weights = {"i": {"kernel": params.kernel, "bias": params.bias}, "h": {"kernel": params.recurrent}}
    with lenient():
        agree(run_linen(linen.SimpleCell(HIDDEN), weights, xs, carry.h), out.outputs)


def run_nnx(cell, weights, xs, carry):
    """``weights`` maps the dotted name of each parameter to its value."""
    for name, value in weights.items():
        layer, leaf = name.split(".")
        assert getattr(getattr(cell, layer), leaf).shape == value.shape
        setattr(getattr(cell, layer), leaf, nnx.Param(jnp.asarray(value)))
    outputs = []
    for x in xs:
        carry, y = cell(carry, x)
        outputs.append(y)
    return np.stack(outputs)


def test_nnx_lstm():
    params, xs, carry, out = ours(jn.lstm(HIDDEN))
    weights = {
        "dense_i.kernel": flat(params.kernel),
        "dense_h.kernel": flat(params.recurrent),
        "dense_h.bias": params.bias,
    }
    with lenient():
        cell = nnx.OptimizedLSTMCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
        agree(run_nnx(cell, weights, xs, tuple(carry)), out.outputs)


def test_nnx_gru():
    """It has no recurrent bias."""
    params, xs, carry, _ = ours(jn.gru(HIDDEN))
    params = params._replace(recurrent_bias=np.zeros_like(params.recurrent_bias))
    weights = {
        "dense_i.kernel": flat(params.kernel),
        "dense_i.bias": params.bias,
        "dense_h.kernel": flat(params.recurrent),
    }
    expected = jn.unroll(jn.gru(HIDDEN), jax.tree.map(jnp.asarray, params), jnp.asarray(xs), carry=carry).outputs
    with lenient():
        agree(run_nnx(nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)), weights, xs, carry.h), expected)


def test_nnx_simple_cell():
    params, xs, carry, out = ours(jn.elman(HIDDEN))
    weights = {"dense_i.kernel": params.kernel, "dense_i.bias": params.bias, "dense_h.kernel": params.recurrent}
    with lenient():
        agree(run_nnx(nnx.SimpleCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)), weights, xs, carry.h), out.outputs)
