"""A tagger from a file of Keras: embedding with masked padding, two directions, layer normalization."""

import jax
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import drawn, equal
from tests.tools.peers import lenient

pytestmark = pytest.mark.long
TOKENS, WIDTH, HIDDEN, CLASSES = 9, 4, 5, 3
TEXTS = np.array([[3, 1, 4, 1, 5], [2, 7, 1, 0, 0], [8, 0, 0, 0, 0]])  # 0 pads


def layers_of(keras):
    layers = keras.layers
    return [
        layers.Embedding(TOKENS, WIDTH, mask_zero=True, name="embed"),
        layers.Bidirectional(layers.LSTM(HIDDEN, return_sequences=True, dropout=0.2), name="first"),
        layers.LayerNormalization(name="norm"),
        layers.GRU(HIDDEN, return_sequences=True, name="second"),
        layers.Dense(CLASSES, activation="softmax", name="head"),
    ]


def sequential(keras):
    return keras.Sequential([keras.Input((None,), dtype="int32"), *layers_of(keras)])


def functional(keras):
    x = inputs = keras.Input((None,), dtype="int32")
    for layer in layers_of(keras):
        x = layer(x)
    return keras.Model(inputs, x)


# The port.


def probabilities(specs, params, tokens):
    real = {"where": tokens != 0, "time_axis": 1}
    xs = params["embed"]["embeddings"][tokens]
    xs = jn.bidirectional(specs["first"], params["first"], xs, **real).outputs
    xs, _ = specs["norm"](params["norm"], xs)
    # At masked steps a single layer of Keras repeats its output, and one in two directions puts out zeros.
    xs = jn.unroll(specs["second"], params["second"], xs, masked_outputs="hold", **real).outputs
    return jax.nn.softmax(xs @ params["head"]["kernel"] + params["head"]["bias"])


@pytest.mark.parametrize("build", [sequential, functional])
def test_probabilities_of_a_saved_model(keras, rng, tmp_path, build):
    with lenient():
        original = build(keras)
        original.set_weights([drawn(rng, *weight.shape) for weight in original.get_weights()])
        original.save(tmp_path / "model.keras")
        theirs = original(TEXTS, training=False)
    model = convert.keras.load_model(tmp_path / "model.keras")
    ours = jax.jit(lambda params: probabilities(model.specs, params, TEXTS))(model.params)
    equal(ours, theirs)
