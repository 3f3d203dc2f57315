"""Weights from and to Keras: the same outputs with random weights, both directions, files, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import BATCH, FEATURES, HIDDEN, STEPS
from tests.tools.peers import lenient

pytestmark = pytest.mark.long


@pytest.fixture
def keras(keras):
    with lenient():
        yield keras


def scrambled(layer, rng, shape=(BATCH, STEPS, FEATURES)):
    """A built layer with random numbers in all weights and statistics."""
    layer.build(shape)
    layer.set_weights([
        np.abs(rng.standard_normal(w.shape)).astype(np.float32) + 0.5
        if w.name == "moving_variance" else rng.standard_normal(w.shape).astype(np.float32)
        for w in layer.weights
    ])  # fmt: skip
    return layer


def batch_first(xs):
    return np.moveaxis(np.asarray(xs), 0, 1)


RECURRENT = {
    "lstm": lambda layers: layers.LSTM(HIDDEN, return_sequences=True),
    "lstm without bias": lambda layers: layers.LSTM(HIDDEN, return_sequences=True, use_bias=False),
    "gru": lambda layers: layers.GRU(HIDDEN, return_sequences=True),
    "gru without bias": lambda layers: layers.GRU(HIDDEN, return_sequences=True, use_bias=False),
    "gru, reset before": lambda layers: layers.GRU(HIDDEN, return_sequences=True, reset_after=False),
    "simple": lambda layers: layers.SimpleRNN(HIDDEN, return_sequences=True),
    "simple, relu": lambda layers: layers.SimpleRNN(HIDDEN, activation="relu", return_sequences=True),
    "two directions": lambda layers: layers.Bidirectional(layers.GRU(HIDDEN, return_sequences=True)),
}


@pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_there_and_back(keras, rng, make):
    layer = scrambled(make(keras.layers), rng)
    found = convert.keras.load(layer)
    xs = batch_first(tools.random_inputs(rng)) * 0.3
    expected = np.asarray(layer(xs))
    tools.agree(convert.run(found.spec, found.params, jnp.asarray(xs), time_axis=1).outputs, expected)
    exported = convert.keras.export(found.spec, found.params)
    before = layer.get_weights()
    layer.set_weights(list(exported.values()))
    tools.same(layer.get_weights(), before)
    spec = None if isinstance(found.spec, tuple) else found.spec
    tools.same(convert.keras.load(exported, spec).params, found.params)


NORMS = {
    "layer": (lambda layers: layers.LayerNormalization(epsilon=1e-2), {}),
    "layer, 2 axes, no scale": (lambda layers: layers.LayerNormalization(axis=[1, 2], scale=False), {}),
    "rms": (lambda layers: layers.RMSNormalization(epsilon=1e-2), {}),
    "group": (lambda layers: layers.GroupNormalization(3), {}),
    "group without center": (lambda layers: layers.GroupNormalization(3, center=False), {}),
    "group without scale": (lambda layers: layers.GroupNormalization(3, scale=False), {}),
    "batch without center": (lambda layers: layers.BatchNormalization(center=False), {"training": False}),
    "batch without scale": (lambda layers: layers.BatchNormalization(scale=False), {"training": False}),
    "instance": (lambda layers: layers.GroupNormalization(-1, center=False), {}),
    "batch": (lambda layers: layers.BatchNormalization(momentum=0.9), {"training": False}),
    "batch, bare": (lambda layers: layers.BatchNormalization(scale=False, center=False), {"training": False}),
}


@pytest.mark.parametrize(("make", "options"), NORMS.values(), ids=NORMS)
def test_normalizers_there_and_back(keras, rng, make, options):
    layer = scrambled(make(keras.layers), rng, (BATCH, STEPS, 6))
    found = convert.keras.load(layer)
    x = rng.standard_normal((BATCH, STEPS, 6)).astype(np.float32) * 2 + 1
    ours, _ = found.spec(found.params, jnp.asarray(x), found.stats or None)
    tools.agree(ours, layer(x, **options), 4e-6)
    exported = convert.keras.export(found.spec, found.params, found.stats)
    assert [w.name for w in layer.weights] == list(exported)
    tools.same(layer.get_weights(), list(exported.values()))
    tools.same(convert.keras.load(exported, found.spec)[1:3], found[1:3])


def model_with(keras, rng):
    """A model with two LSTMs of one size, a Bidirectional one, and normalizers, with random weights."""
    layers = keras.layers
    model = keras.Sequential([
        keras.Input((STEPS, FEATURES)),
        layers.LSTM(HIDDEN, return_sequences=True, dropout=0.2, name="first"),
        layers.BatchNormalization(epsilon=1e-2, name="batch"),
        layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True), name="both"),
        layers.LayerNormalization(center=False, name="row"),
        layers.RMSNormalization(name="rms"),
        layers.GRU(HIDDEN, name="last"),
    ])  # fmt: skip
    model.set_weights([np.abs(rng.standard_normal(w.shape)).astype(np.float32) for w in model.get_weights()])
    return model


def test_a_keras_file_tells_all(keras, rng, tmp_path):
    model = model_with(keras, rng)
    model.save(tmp_path / "model.keras")
    for name in ("first", "batch", "both", "row", "rms", "last"):
        found = convert.keras.load(tmp_path / "model.keras", layer=name)
        live = convert.keras.load(model.get_layer(name))
        assert (found.spec, found.notes) == (live.spec, live.notes)
        tools.same(found[1:3], live[1:3])
    assert convert.keras.load(tmp_path / "model.keras", layer="layers/lstm").spec == jn.lstm(HIDDEN)
    with pytest.raises(ValueError, match=r"layer is None. Pass layer=... with .*'first' \(layers/lstm\)"):
        convert.keras.load(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="layer='third' names 0 layers"):
        convert.keras.load(tmp_path / "model.keras", layer="third")


def test_a_file_of_weights_needs_specs_for_normalizers(keras, rng, tmp_path):
    model = model_with(keras, rng)
    model.save_weights(tmp_path / "model.weights.h5")
    specs = {
        "batch": jn.BatchNorm(epsilon=1e-2),
        "row": jn.LayerNorm(epsilon=1e-3, use_bias=False),
        "rms": jn.RMSNorm(),
    }
    for name in ("first", "batch", "both", "row", "rms", "last"):
        found = convert.keras.load(tmp_path / "model.weights.h5", specs.get(name), layer=name)
        tools.same(found[1:3], convert.keras.load(model.get_layer(name))[1:3])
    with pytest.raises(TypeError, match="spec must be one of LayerNorm"):
        convert.keras.load(tmp_path / "model.weights.h5", layer="row")


def test_what_has_no_counterpart_is_refused(keras, rng):
    layers = keras.layers
    for layer, match in (
        (layers.LSTM(HIDDEN, activation="gelu"), "activation 'gelu' cannot be represented"),
        (layers.LSTM(HIDDEN, recurrent_activation="softmax"), "activation 'softmax' cannot be represented"),
        (layers.LSTM(HIDDEN, go_backwards=True), "go_backwards=True cannot be represented"),
        (layers.SimpleRNN(HIDDEN, activation="gelu"), "activation 'gelu' cannot be represented"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.keras.load(scrambled(layer, rng))
    with pytest.raises(TypeError, match="Dense is no layer that has a counterpart"):
        convert.keras.load(scrambled(layers.Dense(3), rng))
    with pytest.raises(ValueError, match="has no weights yet"):
        convert.keras.load(layers.LSTM(3))


def test_notes_say_what_is_not_in_the_cells(keras, rng):
    layer = scrambled(keras.layers.LSTM(HIDDEN, dropout=0.2, recurrent_dropout=0.1, stateful=True), rng)
    notes = " ".join(convert.keras.load(layer).notes)
    for word in ("dropout=0.2", "recurrent_dropout=0.1", "stateful", "return_sequences", "time_axis=1"):
        assert word in notes
    mixed = scrambled(keras.layers.LSTM(HIDDEN, dtype="mixed_bfloat16"), rng)
    assert "dtype policy mixed_bfloat16" in convert.keras.load(mixed).notes[-1]
    both = keras.layers.Bidirectional(keras.layers.GRU(HIDDEN, return_sequences=True), merge_mode="sum")
    both = scrambled(both, rng)
    found = convert.keras.load(both)
    assert "merge_mode='sum'" in found.notes[-1]
    xs = batch_first(tools.random_inputs(rng))
    ours = convert.run(found.spec, found.params, jnp.asarray(xs), time_axis=1, merge=jnp.add)
    tools.agree(ours.outputs, both(xs))


WEIGHTS = {
    "kernel": np.ones((FEATURES, 4 * HIDDEN), np.float32),
    "recurrent_kernel": np.ones((HIDDEN, 4 * HIDDEN), np.float32),
}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"kernel": np.ones((3, 19), np.float32)}, r"kernel must have shape \(I, 4 H\) = \(3, 20\), got \(3, 19\)"),
        ({"bias": np.ones(19, np.float32)}, r"bias must have shape \(4 H,\) = \(20,\), got \(19,\)"),
        ({"peephole": np.ones(5, np.float32)}, "peephole not understood, and nothing is left out silently"),
        ({"recurrent_kernel": np.ones((5, 10), np.float32)}, r"recurrent_kernel must have shape \(H, 4 H\) of an LSTM"),
    ],
)
def test_wrong_arrays_are_named(change, match):
    with pytest.raises(ValueError, match=match):
        convert.keras.load(WEIGHTS | change)


def test_what_keras_does_not_have_is_refused(key):
    for spec in (jn.ln_gru(2), jn.Elman(2, activation_fn=jnp.sin), jn.Elman(2, norm=jn.LayerNorm())):
        with pytest.raises(ValueError, match="cannot be represented"):
            convert.keras.export(spec, spec.init(key, 3))
    with pytest.raises(ValueError, match="several layers cannot be represented"):
        convert.keras.export((jn.gru(2),), (jn.gru(2).init(key, 3),))
    with pytest.raises(ValueError, match="use_bias=True cannot be represented"):
        convert.keras.export(jn.RMSNorm(use_bias=True), jn.RMSNorm(use_bias=True).init((3,)))
    with pytest.raises(ValueError, match=r"neither a .keras nor a .weights.h5"):
        convert.keras.load("weights.npz", layer="lstm")
    with pytest.raises(ValueError, match="do not tell reset_after"):
        convert.keras.load({name: array[:, : 3 * HIDDEN] for name, array in WEIGHTS.items()})
    with pytest.raises(ValueError, match="nonlinearity of a SimpleRNN"):
        convert.keras.load({name: array[:, :HIDDEN] for name, array in WEIGHTS.items()})


def test_the_relu_of_a_simple_rnn_is_ours(keras, rng):
    layer = scrambled(keras.layers.SimpleRNN(HIDDEN, activation="relu"), rng)
    assert convert.keras.load(layer).spec.activation_fn is jax.nn.relu
