"""Layers of Keras and Flax with other functions than the logistic one and tanh come and go with them."""

import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from jaxnorm.convert.shared.cells import ACTIVATIONS
from tests.convert import tools

T, B, F, H = 4, 2, 3, 4


@pytest.fixture
def keras():
    module = tools.peer("keras")
    if module.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    with tools.its_own_rules():
        yield module


@pytest.fixture
def nnx():
    module = tools.peer("flax.nnx")
    with tools.its_own_rules():
        yield module


def inputs(rng):
    return rng.standard_normal((B, T, F)).astype(np.float32)


KERAS = {
    "hard lstm": ("LSTM", {"recurrent_activation": "hard_sigmoid"}, "gate_fn", jax.nn.hard_sigmoid),
    "relu lstm": ("LSTM", {"activation": "relu"}, "activation_fn", jax.nn.relu),
    "hard gru": ("GRU", {"recurrent_activation": "hard_sigmoid"}, "gate_fn", jax.nn.hard_sigmoid),
    "softsign gru": ("GRU", {"activation": "softsign", "reset_after": False}, "activation_fn", jax.nn.soft_sign),
    "linear lstm": ("LSTM", {"activation": "linear", "use_bias": False}, "activation_fn", jnp.positive),
    "silu rnn": ("SimpleRNN", {"activation": "silu"}, "activation_fn", jax.nn.silu),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras_layers_there_and_back(keras, rng, name):
    kind, options, field, function = KERAS[name]
    layer = getattr(keras.layers, kind)(H, return_sequences=True, **options)
    layer.build((B, T, F))
    layer.set_weights([rng.standard_normal(w.shape).astype(np.float32) * 0.5 for w in layer.weights])
    found, xs = convert.keras.load(layer), inputs(rng)
    assert getattr(found.spec, field) is function
    tools.agree(jn.unroll(found.spec, found.params, jnp.asarray(xs), time_axis=1).outputs, layer(xs))
    exported = convert.keras.export(found.spec, found.params)
    tools.same(list(exported.values()), layer.get_weights())
    again = convert.keras.load(exported, found.spec)  # arrays alone do not tell the functions
    assert again.spec == found.spec
    tools.same(again.params, found.params)


def test_names_of_keras_are_the_same_functions(keras):
    x = jnp.linspace(-8.0, 8.0, 201)
    for name, function in ACTIVATIONS.items():
        np.testing.assert_allclose(function(x), keras.activations.get(name)(x), rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_file_of_keras_tells_the_functions(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((T, F)),
        layers.Bidirectional(layers.LSTM(H, recurrent_activation="hard_sigmoid", return_sequences=True), name="both"),
        layers.GRU(H, activation="relu", name="last"),
    ])  # fmt: skip
    model.save(tmp_path / "model.keras")
    both = convert.keras.load(tmp_path / "model.keras", layer="both").spec
    assert [cell.gate_fn for cell in both] == [jax.nn.hard_sigmoid] * 2
    assert convert.keras.load(tmp_path / "model.keras", layer="last").spec.activation_fn is jax.nn.relu


def test_hard_sigmoid_of_keras_2_is_another_function(keras, tmp_path):
    layer = keras.layers.GRU(H, recurrent_activation="hard_sigmoid", name="last")
    keras.Sequential([keras.Input((T, F)), layer]).save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            old.writestr(name, '{"keras_version": "2.15.0"}' if name == "metadata.json" else new.read(name))
    assert convert.keras.load(tmp_path / "new.keras", layer="last").spec.gate_fn is jax.nn.hard_sigmoid
    with pytest.raises(ValueError, match=r"is of Keras 2\.15\.0, whose hard_sigmoid is clip\(0\.2 x"):
        convert.keras.load(tmp_path / "old.keras", layer="last")


CELLS = {
    "lstm": (jn.LSTM, ("LSTMCell", "OptimizedLSTMCell")),
    "gru": (jn.GRU, ("GRUCell",)),
}


@pytest.mark.parametrize("name", CELLS)
def test_nnx_cells_there_and_back(nnx, rng, name):
    kind, modules = CELLS[name]
    options = {"gate_fn": jax.nn.hard_sigmoid, "activation_fn": jax.nn.soft_sign}
    xs = jnp.asarray(inputs(rng))
    for module in modules:
        cell = getattr(nnx, module)(F, H, **options, rngs=nnx.Rngs(0))
        found = convert.nnx.load(cell)
        assert found.spec == kind(H, **options)
        expected = nnx.RNN(cell)(xs)
        tools.agree(jn.unroll(found.spec, found.params, xs, time_axis=1).outputs, expected)
        other = getattr(nnx, module)(F, H, **options, rngs=nnx.Rngs(1))
        tools.agree(nnx.RNN(convert.nnx.export(found.spec, found.params, into=other))(xs), expected)
        usual = getattr(nnx, module)(F, H, activation_fn=jax.nn.soft_sign, rngs=nnx.Rngs(1))
        with pytest.raises(ValueError, match=r"gate_fn=hard_sigmoid cannot be represented: the module has sigmoid"):
            convert.nnx.export(found.spec, found.params, into=usual)


def test_a_simple_cell_with_another_function_is_refused(nnx):
    cell = jn.elman(H, activation_fn=jax.nn.relu)
    with pytest.raises(ValueError, match=r"activation_fn=relu cannot be represented: the module has tanh"):
        convert.nnx.export(cell, cell.init(jax.random.key(0), F), into=nnx.SimpleCell(F, H, rngs=nnx.Rngs(0)))


def test_other_functions_have_no_place_in_other_libraries():
    for cell in (jn.lstm(H, gate_fn=jax.nn.hard_sigmoid), jn.gru(H, activation_fn=jax.nn.relu)):
        params = cell.init(jax.random.key(0), F)
        for export in (convert.torch.export, convert.cudnn.export):
            with pytest.raises(ValueError, match=r"_fn=.* cannot be represented"):
                export(cell, params)
        exported = convert.torch.export(type(cell)(H), params)
        with pytest.raises(ValueError, match=r"spec has .*_fn=.*, but the weights are those of"):
            convert.torch.load(exported, cell)
    odd = jn.lstm(H, gate_fn=lambda x: jnp.clip(x, 0, 1))
    with pytest.raises(ValueError, match=r"gate_fn=<lambda> cannot be represented: the layer there has tanh, relu"):
        convert.keras.export(odd, odd.init(jax.random.key(0), F))
