"""Whole models of Keras, live and in files: every layer by name, the same outputs, and the only one that fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools

TOKENS, STEPS, WIDTH, HIDDEN = 7, 4, 3, 4


@pytest.fixture
def keras():
    module = tools.peer("keras")
    if module.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    with tools.its_own_rules():
        yield module


def drawn(model, rng):
    model.set_weights([np.abs(rng.standard_normal(w.shape)).astype(np.float32) + 0.1 for w in model.get_weights()])
    return model


@pytest.fixture
def tagger(keras, rng):
    """A functional model with wrappers, a model inside, and layers of all kinds."""
    layers = keras.layers
    tokens = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(TOKENS, WIDTH, name="embed")(tokens)
    x = layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), name="both")(x)
    cells = [layers.LSTMCell(HIDDEN), layers.GRUCell(HIDDEN), layers.LSTMCell(WIDTH)]
    x = layers.RNN(cells, return_sequences=True, name="stack")(x)
    inner = [
        layers.LayerNormalization(name="row"),
        layers.UnitNormalization(name="unit"),
    ]
    inner += [layers.RNN(layers.SimpleRNNCell(HIDDEN), return_sequences=True, name="rnn")]
    x = keras.Sequential([keras.Input((STEPS, WIDTH)), *inner], name="inner")(x)
    x = layers.BatchNormalization(name="batch")(x)
    x = layers.GroupNormalization(2, name="group")(x)
    x = layers.Conv1D(WIDTH, 1, name="conv")(layers.Dropout(0.2)(x))
    x = layers.TimeDistributed(layers.Dense(TOKENS, name="dense"), name="each")(x)
    return drawn(keras.Model(tokens, x), rng)


def run_tagger(model, tokens):
    x = model["embed"]["embeddings"][tokens]
    for name in ("both", "stack", "inner/row", "inner/unit", "inner/rnn", "batch", "group"):
        layer = model[name]
        if name in ("both", "stack", "inner/rnn"):
            x = convert.run(layer.spec, layer.params, x, time_axis=1).outputs
        else:
            x, _ = layer.spec(layer.params, x, layer.stats or None)
    for name, kernel in (("conv", model["conv"]["kernel"][0]), ("each/dense", model["each/dense"]["kernel"])):
        x = x @ kernel + model[name]["bias"]
    return x


PLACES = {"embed", "both", "stack", "inner/row", "inner/unit", "inner/rnn", "batch", "group", "conv", "each/dense"}


def test_a_model_by_the_names_of_its_layers(keras, rng, tagger):
    tokens = rng.integers(TOKENS, size=(2, STEPS))
    model = convert.keras.load(tagger)
    with tools.its_own_rules():
        expected = np.asarray(tagger(tokens, training=False))
        tools.agree(run_tagger(model, tokens), expected, 1e-5)
    assert set(model) == PLACES
    assert model.kinds["each/dense"] == "Dense"
    assert "Dropout" in model.kinds.values()
    assert [type(spec).__name__ for spec in model["stack"].spec] == ["LSTM", "GRU", "LSTM"]
    assert any(note.startswith("both: sequences are batch first") for note in model.notes)
    tools.same(convert.keras.load(tagger, layer="inner/rnn").params, model["inner/rnn"].params)
    tools.same(convert.keras.load(tagger, layer="row").params, model["inner/row"].params)


def test_the_file_of_a_model(rng, tagger, tmp_path):
    tagger.save(tmp_path / "model.keras")
    live, model = convert.keras.load_model(tagger), convert.keras.load_model(tmp_path / "model.keras")
    assert model.specs == {name: live.specs[name] for name in model.specs}
    tools.same({name: model.params[name] for name in live}, live.params)
    tools.same(model.stats, live.stats)
    assert set(model.notes) == set(live.notes)
    assert {name: model.kinds[name] for name in PLACES} == {name: live.kinds[name] for name in PLACES}


def test_a_file_of_weights(rng, tagger, tmp_path):
    tagger.save_weights(tmp_path / "model.weights.h5")
    live = convert.keras.load_model(tagger)
    specs = {name: live.specs[name] for name in ("inner/row", "batch", "group", "inner/rnn")}
    model = convert.keras.load_model(tmp_path / "model.weights.h5", specs)
    for name in (*specs, "both"):
        tools.same(model[name][1:3], live[name][1:3])
    assert [array.shape for array in model["conv"].values()] == [(1, HIDDEN, WIDTH), (WIDTH,)]
    bare = convert.keras.load_model(tmp_path / "model.weights.h5")
    assert set(bare["inner/row"]) == {"variable 0", "variable 1"}
    assert any("stack: the arrays do not tell the order of cells" in note for note in bare.notes)
    assert "cell/cells/gru_cell/vars/0" in bare["stack"]
    assert any("inner/rnn: the names of arrays do not tell the nonlinearity" in note for note in bare.notes)


def test_a_model_goes_back(rng, tagger):
    model = convert.keras.load(tagger)
    specs = {name: spec for name, spec in model.specs.items() if name not in ("stack", "inner/unit")}
    params = {name: weights for name, weights in model.params.items() if name not in ("stack", "inner/unit")}
    arrays = convert.keras.export(specs, params, model.stats)
    both, conv = tagger.get_layer("both"), tagger.get_layer("conv")
    np.testing.assert_array_equal(arrays["both/backward_layer/bias"], both.backward_layer.cell.bias)
    np.testing.assert_array_equal(arrays["conv/kernel"], conv.kernel)
    np.testing.assert_array_equal(arrays["batch/moving_mean"], tagger.get_layer("batch").moving_mean)
    with pytest.raises(ValueError, match=r"params has no both, "):
        convert.keras.export(specs, {"conv": params["conv"]})


def test_the_only_layer_that_fits(keras, rng, tmp_path):
    layers = keras.layers
    with tools.its_own_rules():
        inputs = [keras.Input((STEPS, WIDTH)), layers.Dense(WIDTH), layers.LayerNormalization(name="row")]
        model = drawn(keras.Sequential([*inputs, layers.GRU(HIDDEN, name="gru"), layers.Dense(2)]), rng)
    expected = convert.keras.load(model.get_layer("gru")).params
    row = convert.keras.load(model.get_layer("row"))
    for name, save in (("model.keras", model.save), ("model.weights.h5", model.save_weights)):
        save(tmp_path / name)
        found = convert.keras.load(tmp_path / name)
        tools.same(found.params, expected)
        assert "the one layer that fits has the prefix 'gru'" in found.notes[-1]
        tools.same(convert.keras.load(tmp_path / name, row.spec).params, row.params)
    arrays = {variable.path: np.asarray(variable) for variable in model.weights}
    tools.same(convert.keras.load(arrays).params, expected)
    tools.same(convert.keras.load(arrays, row.spec).params, row.params)


def test_layers_of_ones_own(keras, rng):
    class Block(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.rnn = keras.layers.SimpleRNN(HIDDEN, return_sequences=True, name="rnn")
            self.odd = keras.layers.LSTM(HIDDEN, activation="relu", name="odd")

        def build(self, shape):
            self.gain = self.add_weight(shape=(HIDDEN,), name="gain")
            self.rnn.build(shape)
            self.odd.build((*shape[:-1], HIDDEN))

        def call(self, x):
            return self.odd(self.rnn(x) * self.gain)

    with tools.its_own_rules():
        model = drawn(keras.Sequential([keras.Input((STEPS, WIDTH)), Block()]), rng)
    found = convert.keras.load(model)
    assert set(found) == {"block", "block/rnn", "block/odd"}
    assert list(found["block"]) == ["gain"]
    assert set(found["block/odd"]) == {"kernel", "recurrent_kernel", "bias"}
    assert any(note.startswith("block/odd: activation='relu' cannot be represented") for note in found.notes)
    assert found["block/rnn"].spec.activation is jnp.tanh


def test_layers_of_one_name_are_numbered(keras, rng, tmp_path):
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two = (keras.layers.GRU(HIDDEN, return_sequences=True, name="gru") for _ in range(2))

        def call(self, x):
            return self.two(self.one(x))

    model = Twins()
    model(np.ones((2, STEPS, WIDTH), np.float32))
    drawn(model, rng)
    model.save_weights(tmp_path / "model.weights.h5")
    for source in (model, tmp_path / "model.weights.h5"):
        found = convert.keras.load_model(source)
        assert set(found) == {"gru", "gru_1"}
        tools.same(found["gru"].params, convert.keras.load(model.one).params)
        tools.same(found["gru_1"].params, convert.keras.load(model.two).params)


def test_errors_name_the_layer(keras, rng, tagger):
    with pytest.raises(ValueError, match=r"specs has rows, and there are the layers .*inner/row"):
        convert.keras.load_model(tagger, {"rows": jn.LayerNorm()})
    with pytest.raises(ValueError, match=r"load_model: batch: spec is LayerNorm.*weights are those of BatchNorm"):
        convert.keras.load_model(tagger, {"batch": jn.LayerNorm()})
    with pytest.raises(TypeError, match="source must be a built layer, arrays by name or a path"):
        convert.keras.load_model(keras.layers.LSTM)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(convert.keras.load(tagger).params))
