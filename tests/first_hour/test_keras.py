"""The first hour of a user of Keras: its recurrent layers and normalizers beside ours, with the same weights."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from jaxnorm._base import foreign_keywords, norm_keywords
from tests.first_hour.habits import answered, close, drawn
from tests.tools.peers import lenient

B, T, D, H = 2, 5, 3, 4
KEY = jax.random.key(0)
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], bool)


def built(layer, rng, shape):
    """The layer with random weights, positive where a variance may be."""
    with lenient():
        layer.build(shape)
        layer.set_weights([0.5 * np.abs(rng.standard_normal(w.shape)).astype("float32") for w in layer.weights])
    return layer


def called(layer, *args, **options):
    with lenient():
        return jax.tree.map(np.asarray, layer(*(np.asarray(a) for a in args), **options))


LAYERS = {
    "LSTM": ("LSTM", {}),
    "LSTM, hard sigmoid": ("LSTM", {"recurrent_activation": "hard_sigmoid", "activation": "relu"}),
    "GRU": ("GRU", {}),
    "GRU, reset before": ("GRU", {"reset_after": False}),
    "SimpleRNN": ("SimpleRNN", {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_all_outputs_and_the_state(keras, name, rng):
    """return_sequences is unroll(...).outputs, return_state unroll(...).carry."""
    kind, options = LAYERS[name]
    layer = built(getattr(keras.layers, kind)(H, return_sequences=True, return_state=True, **options), rng, (B, T, D))
    found = convert.keras.load(layer)
    xs = drawn(rng, B, T, D)
    expected, *state = called(layer, xs)
    out = jn.unroll(found.spec, found.params, xs, time_axis=1)
    close(out.outputs, expected)
    close((out.carry.h, out.carry.c) if kind == "LSTM" else (out.carry.h,), tuple(state))
    close(out.outputs[:, -1], expected[:, -1])  # what the layer returns without return_sequences


def test_backwards_comes_in_the_order_of_time(keras, rng):
    layer = built(keras.layers.GRU(H, return_sequences=True), rng, (B, T, D))
    found, xs = convert.keras.load(layer), drawn(rng, B, T, D)
    layer.go_backwards = True
    out = jn.unroll(found.spec, found.params, xs, time_axis=1, reverse=True)
    close(out.outputs, called(layer, xs)[:, ::-1])
    close(out.carry.h, called(layer, xs)[:, -1])


@pytest.mark.parametrize("zero", [True, False])
def test_masks(keras, zero, rng):
    layer = built(keras.layers.LSTM(H, return_sequences=True, return_state=True), rng, (B, T, D))
    layer.zero_output_for_mask = zero
    found, xs = convert.keras.load(layer), drawn(rng, B, T, D)
    expected, h, c = called(layer, xs, mask=MASK)
    options = {} if zero else {"masked_outputs": "hold"}
    out = jn.unroll(found.spec, found.params, xs, time_axis=1, where=jnp.asarray(MASK), **options)
    close(out.outputs, expected)
    close((out.carry.h, out.carry.c), (h, c))


def test_a_state_that_goes_in(keras, rng):
    """Keras has [h, c]; a dict says which is which."""
    layer = built(keras.layers.LSTM(H, return_sequences=True), rng, (B, T, D))
    found, xs, h, c = convert.keras.load(layer), drawn(rng, B, T, D), drawn(rng, B, H), drawn(rng, B, H)
    expected = called(layer, xs, initial_state=[np.asarray(h), np.asarray(c)])
    close(jn.unroll(found.spec, found.params, xs, time_axis=1, carry={"h": h, "c": c}).outputs, expected)


MERGES = {
    "concat": {},
    "sum": {"merge": jnp.add},
    "mul": {"merge": jnp.multiply},
    "ave": {"merge": lambda forward, backward: (forward + backward) / 2},
    None: {"merge": jn.Directions},
}


@pytest.mark.parametrize("mode", MERGES, ids=str)
def test_both_directions(keras, mode, rng):
    layer = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True), merge_mode="concat")
    built(layer, rng, (B, T, D))
    found, xs = convert.keras.load(layer), drawn(rng, B, T, D)
    layer.merge_mode = mode
    out = jn.bidirectional(found.spec, found.params, xs, time_axis=1, **MERGES[mode])
    close(tuple(out.outputs) if mode is None else out.outputs, called(layer, xs))


NORMS = {
    "LayerNormalization": {"epsilon": 1e-2},
    "LayerNormalization, center": {"center": False},
    "LayerNormalization, scale": {"scale": False},
    "LayerNormalization, axis": {"axis": [1, 2]},
    "GroupNormalization": {"groups": 3},
    "BatchNormalization": {},
    "BatchNormalization, axis": {"axis": 1},
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(keras, name, rng):
    layer = built(getattr(keras.layers, name.split(",")[0])(**NORMS[name]), rng, (3, 4, 6))
    spec = {
        "LayerNormalization": jn.LayerNorm(epsilon=1e-2),
        "LayerNormalization, center": jn.LayerNorm(epsilon=1e-3, use_bias=False),
        "LayerNormalization, scale": jn.LayerNorm(epsilon=1e-3, use_scale=False),
        "LayerNormalization, axis": jn.LayerNorm((1, 2), epsilon=1e-3),
        "GroupNormalization": jn.GroupNorm(3, epsilon=1e-3),
        "BatchNormalization": jn.BatchNorm(epsilon=1e-3),
        "BatchNormalization, axis": jn.BatchNorm(feature_axis=1, epsilon=1e-3),
    }[name]
    values = {w.name: jnp.asarray(np.asarray(w)) for w in layer.weights}
    params = jn.Affine(values.get("gamma"), values.get("beta"))
    x = drawn(rng, 3, 4, 6) + 1
    stats = None
    if "BatchNorm" in name:
        stats = jn.Moments(values["moving_mean"], values["moving_variance"], jnp.ones(()))
    close(spec(params, x, stats)[0], called(layer, x), 5e-6)


def test_batch_statistics_move_as_there(keras, rng):
    layer = built(keras.layers.BatchNormalization(momentum=0.8), rng, (8, 6))
    norm = jn.BatchNorm(epsilon=1e-3, momentum=0.8)
    params = jn.Affine(*(jnp.asarray(np.asarray(w)) for w in (layer.gamma, layer.beta)))
    running = jn.Moments(
        *(jnp.asarray(np.asarray(w)) for w in (layer.moving_mean, layer.moving_variance)), jnp.ones(())
    )
    for _ in range(2):
        x = drawn(rng, 8, 6) + 1
        y, measured = norm(params, x)
        running = norm.update_running(running, measured)
        close(y, called(layer, x, training=True), 5e-6)
    close((running.mean, running.var), tuple(np.asarray(w) for w in (layer.moving_mean, layer.moving_variance)))


HABITS = {
    "units": (lambda: jn.lstm(units=H), "Pass hidden_features"),
    "return_sequences": (lambda: jn.lstm(H, return_sequences=True), "jaxnorm.unroll"),
    "return_state of a run": (lambda: run(return_state=True), "unroll(...).carry"),
    "initial_state": (lambda: run(initial_state=None), "Pass carry=..."),
    "mask": (lambda: run(mask=None), "Pass where=..."),
    "go_backwards": (lambda: run(go_backwards=True), "Pass reverse=True"),
    "zero_output_for_mask": (lambda: run(zero_output_for_mask=True), "zeros by default"),
    "training": (lambda: run(training=True), "jaxnorm.deterministic(cell)"),
    "recurrent_activation": (lambda: jn.lstm(H, recurrent_activation="hard_sigmoid"), "Pass gate_fn, a function"),
    "activation": (lambda: jn.gru(H, activation="relu"), "activation_fn"),
    "activation_fn as a word": (lambda: jn.gru(H, activation_fn="relu"), "Write activation_fn="),
    "reset_after": (lambda: jn.gru(H, reset_after=False), "jaxnorm.zoo.ResetBeforeGRU"),
    "kernel_initializer": (lambda: jn.lstm(H, kernel_initializer="orthogonal"), "Pass kernel_init"),
    "kernel_regularizer": (lambda: jn.lstm(H, kernel_regularizer=None), "add a penalty to the loss"),
    "merge_mode": (lambda: both(merge_mode="sum"), "Pass merge=jnp.add"),
    "merge as a word": (lambda: both(merge="sum"), "Write merge=jnp.add"),
    "merge None": (lambda: both(merge=None), "merge=jaxnorm.Directions keeps both"),
    "LayerNormalization": (lambda: jn.LayerNormalization(), "Write jaxnorm.LayerNorm()"),
    "center": (lambda: jn.LayerNorm(center=False), "Pass use_bias"),
    "scale": (lambda: jn.BatchNorm(scale=False), "Pass use_scale"),
    "groups": (lambda: jn.GroupNorm(groups=2), "Pass num_groups"),
    "gamma_initializer": (lambda: jn.LayerNorm(gamma_initializer="ones"), "Pass scale_init"),
    "moving_mean_initializer": (lambda: jn.BatchNorm(moving_mean_initializer="zeros"), "Pass mean_init"),
    "renorm": (lambda: jn.BatchNorm(renorm=True), "jaxnorm.zoo.BatchRenorm"),
    "power_iterations": (lambda: jn.SpectralNorm(power_iterations=2), "Pass iterations"),
}


def run(**options):
    return jn.unroll(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((T, B, D)), **options)


def both(**options):
    cell = jn.lstm(H)
    return jn.bidirectional([cell] * 2, [cell.init(KEY, D)] * 2, jnp.ones((T, B, D)), **options)


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])


WORDS = {"self", "kwargs", "cell", "axis", "use_bias", "epsilon", "momentum", "activation"}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_every_keyword_of_a_layer_is_ours_or_is_answered(keras, kind):
    names = set(inspect.signature(getattr(keras.layers, kind).__init__).parameters)
    assert names - WORDS - set(foreign_keywords.CELLS) == set()


@pytest.mark.parametrize("kind", ["LayerNormalization", "BatchNormalization", "GroupNormalization"])
def test_every_keyword_of_a_normalizer_is_ours_or_is_answered(keras, kind):
    names = set(inspect.signature(getattr(keras.layers, kind).__init__).parameters)
    assert names - WORDS - set(norm_keywords.SPECS) == set()
