"""Convolutional LSTMs from and to Keras, Flax linen and Haiku, for images with one, two and three axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools

pytestmark = pytest.mark.long

BATCH, STEPS, INPUTS, HIDDEN = 2, 3, 2, 4
IMAGES = {1: (7,), 2: (5, 4), 3: (3, 4, 2)}
WINDOWS = {1: (3,), 2: (3, 2), 3: (2, 3, 1)}
axes = pytest.mark.parametrize("n", IMAGES)


def images(rng, n):
    return rng.standard_normal((BATCH, STEPS, *IMAGES[n], INPUTS)).astype(np.float32)


def spec_of(n, **options):
    return jn.zoo.ConvLSTM(HIDDEN, image_shape=IMAGES[n], kernel_size=WINDOWS[n], **options)


def run(found, xs):
    return jn.unroll(found.spec, found.params, jnp.asarray(xs), time_axis=1).outputs


# ---- Keras


@pytest.fixture
def keras():
    module = tools.peer("keras")
    if module.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    with tools.its_own_rules():
        yield module


KERAS = {
    "1d": (1, {"padding": "same"}),
    "2d": (2, {"padding": "same"}),
    "3d": (3, {"padding": "same"}),
    "valid": (2, {"padding": "valid"}),
    "strides": (2, {"padding": "same", "strides": (2, 1)}),
    "valid, strides": (1, {"padding": "valid", "strides": 2}),
    "dilation": (2, {"padding": "same", "dilation_rate": 2}),
    "without bias": (1, {"padding": "same", "use_bias": False}),
}


def layer_of(keras, rng, n, **options):
    """A built layer with random weights."""
    kind = getattr(keras.layers, f"ConvLSTM{n}D")
    layer = kind(HIDDEN, WINDOWS[n], return_sequences=True, **options)
    layer.build((BATCH, STEPS, *IMAGES[n], INPUTS))
    layer.set_weights([0.5 * rng.standard_normal(w.shape).astype(np.float32) for w in layer.weights])
    return layer


@pytest.mark.parametrize("name", KERAS)
def test_keras_layers_there_and_back(keras, rng, name):
    n, options = KERAS[name]
    layer = layer_of(keras, rng, n, **options)
    found = convert.keras.load(layer)
    assert found.spec.image_shape == IMAGES[n]
    assert found.notes == ("sequences are batch first: pass time_axis=1",)
    xs = images(rng, n)
    tools.agree(run(found, xs), layer(xs))
    exported = convert.keras.export(found.spec, found.params)
    tools.same(list(exported.values()), layer.get_weights())
    tools.same(convert.keras.load(exported, found.spec).params, found.params)


def test_keras_files(keras, rng, tmp_path):
    layer = layer_of(keras, rng, 2, padding="same")
    model = keras.Sequential([keras.Input((STEPS, *IMAGES[2], INPUTS)), layer])
    expected = convert.keras.load(layer).params
    for ending in (".keras", ".weights.h5"):
        path = tmp_path / f"model{ending}"
        (model.save if ending == ".keras" else model.save_weights)(path)
        tools.same(convert.keras.load(path, spec_of(2), layer="layers/conv_lstm2d").params, expected)
        with pytest.raises(ValueError, match=r"do not tell the shape of an image\. Pass .*ConvLSTM\(4, image_shape="):
            convert.keras.load(path, layer="layers/conv_lstm2d")


def test_keras_arrays_under_a_prefix(rng):
    arrays = convert.keras.export(spec_of(2), tools.random_params(spec_of(2), rng))
    deeper = {f"net/conv_lstm/{name}": array for name, array in arrays.items()}
    with pytest.raises(ValueError, match=r"arrays of a ConvLSTM under the prefix 'net/conv_lstm/'"):
        convert.keras.load(deeper)


def test_what_keras_has_and_we_have_not_is_refused(keras, rng):
    for options, match in (
        ({"data_format": "channels_first"}, r"data_format='channels_first' cannot be represented"),
        ({"activation": "relu"}, r"activation='relu' cannot be represented"),
        ({"go_backwards": True}, r"go_backwards=True cannot be represented"),
    ):
        layer = keras.layers.ConvLSTM2D(HIDDEN, (3, 2), padding="same", **options)
        layer.build((BATCH, STEPS, *IMAGES[2], INPUTS))
        with pytest.raises(ValueError, match=match):
            convert.keras.load(layer)
    layer = layer_of(keras, rng, 2, padding="same")
    with pytest.raises(ValueError, match=r"spec has padding='VALID', but the weights are those of padding='SAME'"):
        convert.keras.load(layer, spec_of(2, padding="VALID"))
    for cell, match in (
        (spec_of(2, use_peepholes=True), r"use_peepholes=True cannot be represented"),
        (spec_of(2, norm=jn.LayerNorm()), r"norm=CellNorms.* cannot be represented"),
        (jn.zoo.ConvLSTM(1, image_shape=(2, 2, 2, 2)), r"images with 4 axes cannot be represented"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.keras.export(cell, cell.init(jax.random.key(0), 2))


# ---- Flax


@axes
@pytest.mark.parametrize("use_bias", [True, False])
def test_linen_cells_there_and_back(rng, n, use_bias):
    linen = tools.peer("flax.linen")
    with tools.its_own_rules():
        module = linen.RNN(linen.ConvLSTMCell(HIDDEN, WINDOWS[n], use_bias=use_bias))
        xs = images(rng, n)
        variables = tools.random_like(module.init(jax.random.key(0), xs), rng)
        expected = module.apply(variables, xs)
        found = convert.linen.load(variables, spec_of(n), prefix="cell/")
        tools.agree(run(found, xs), expected)
        exported = convert.linen.export(found.spec, found.params)
        inner = linen.RNN(linen.ConvLSTMCell(HIDDEN, WINDOWS[n]))
        tools.agree(inner.apply({"params": {"cell": exported["params"]}}, xs), expected)
        with pytest.raises(ValueError, match=r"do not tell the shape of an image"):
            convert.linen.load(variables, module)
        with pytest.raises(ValueError, match=r"arrays of a ConvLSTMCell under the prefix 'cell/'"):
            convert.linen.load(variables, spec_of(n))


def test_what_linen_has_not_is_refused():
    for options, match in (
        ({"strides": 2}, r"strides=\(2, 2\) cannot be represented: it would act on the state there"),
        ({"padding": "VALID"}, r"padding='VALID' cannot be represented"),
        ({"dilation": (1, 2)}, r"dilation=\(1, 2\) cannot be represented"),
        ({"use_peepholes": True}, r"use_peepholes=True cannot be represented"),
    ):
        cell = spec_of(2, **options)
        with pytest.raises(ValueError, match=match):
            convert.linen.export(cell, cell.init(jax.random.key(0), 2))


# ---- Haiku


@axes
def test_haiku_cores_there_and_back(rng, n):
    hk = tools.peer("haiku")
    xs = images(rng, n)
    with tools.its_own_rules():

        @hk.without_apply_rng
        @hk.transform
        def theirs(xs):
            core = getattr(hk, f"Conv{n}DLSTM")(IMAGES[n], HIDDEN, WINDOWS[n])
            return hk.static_unroll(core, xs, core.initial_state(BATCH), time_major=False)[0]

        params = tools.random_like(theirs.init(jax.random.key(0), xs), rng)
        expected = theirs.apply(params, xs)
        found = convert.haiku.load(params, spec_of(n))
        tools.agree(run(found, xs), expected)
        exported, state = convert.haiku.export(found.spec, found.params)
        assert state == {}
        assert exported.keys() == params.keys()
        tools.agree(theirs.apply(exported, xs), expected)
        named = {key.replace(f"conv{n}_dlstm", "net/~/core"): value for key, value in params.items()}
        tools.same(convert.haiku.load(named, spec_of(n), name="net/~/core").params, found.params)
        with pytest.raises(ValueError, match=r"do not tell the shape of an image"):
            convert.haiku.load(params)
