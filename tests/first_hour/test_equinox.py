"""The first hour of a user of Equinox: one example, a scan over a cell, a vmap over the batch."""

import inspect

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from jaxnorm import convert
from jaxnorm._base import norm_keywords
from tests.first_hour.habits import answered, close, draw_like, drawn
from tests.tools.peers import import_peer, lenient

B, T, D, H = 2, 5, 3, 4
KEY = jax.random.key(0)


@pytest.fixture
def equinox():
    return import_peer("equinox")


def drawn_module(equinox, module, rng):
    arrays, rest = equinox.partition(module, equinox.is_inexact_array)
    return equinox.combine(draw_like(arrays, rng), rest)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_a_scan_over_one_example_and_a_vmap_over_the_batch(equinox, kind, rng):
    cell = drawn_module(equinox, getattr(equinox.nn, kind)(D, H, key=KEY), rng)
    found, xs = convert.equinox.load(cell), drawn(rng, B, T, D)

    def theirs(xs):
        def step(state, x):
            state = cell(x, state)
            return state, state

        start = (jnp.zeros(H), jnp.zeros(H)) if kind == "LSTMCell" else jnp.zeros(H)
        return jax.lax.scan(step, start, xs)

    def ours(xs):
        def step(carry, x):
            return jn.step(found.spec, found.params, carry, x)

        return jax.lax.scan(step, found.spec.initial_carry((), params=found.params), xs)

    with lenient():
        state, states = jax.vmap(theirs)(xs)
    carry, ys = jax.vmap(ours)(xs)
    close(ys, states[0] if kind == "LSTMCell" else states)
    close((carry.h, carry.c) if kind == "LSTMCell" else (carry.h,), state if kind == "LSTMCell" else (state,))
    # The whole sequence at once, for one example, a vmap of it, or a batch.
    close(jn.unroll(found.spec, found.params, xs[0]).outputs, ys[0])
    close(jax.vmap(lambda xs: jn.unroll(found.spec, found.params, xs).outputs)(xs), ys)
    close(jn.unroll(found.spec, found.params, xs, time_axis=1).outputs, ys)


def test_a_state_has_names(equinox, rng):
    """Equinox has (h, c); a dict says which is which, and comes back."""
    cell = drawn_module(equinox, equinox.nn.LSTMCell(D, H, key=KEY), rng)
    found, x, h, c = convert.equinox.load(cell), drawn(rng, D), drawn(rng, H), drawn(rng, H)
    with lenient():
        expected = cell(x, (h, c))
    carry, _ = jn.step(found.spec, found.params, {"h": h, "c": c}, x)
    close((carry["h"], carry["c"]), expected)


NORMS = {
    "LayerNorm": (lambda nn: nn.LayerNorm(6), (6,), jn.LayerNorm()),
    "LayerNorm without bias": (lambda nn: nn.LayerNorm(6, use_bias=False), (6,), jn.LayerNorm(use_bias=False)),
    "LayerNorm of two axes": (lambda nn: nn.LayerNorm((4, 6)), (4, 6), jn.LayerNorm((-2, -1))),
    "RMSNorm": (lambda nn: nn.RMSNorm(6, use_bias=False), (6,), jn.RMSNorm()),
    "GroupNorm": (lambda nn: nn.GroupNorm(2, 6), (6, 5), jn.GroupNorm(2, axis=(-2, -1), feature_axis=-2)),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(equinox, name, rng):
    """One array without a vmap: the axes count from the end, so a batch goes in as it is."""
    make, shape, spec = NORMS[name]
    module, x = drawn_module(equinox, make(equinox.nn), rng), drawn(rng, B, *shape) + 1
    params = jn.Affine(module.weight, getattr(module, "bias", None))
    with lenient():
        expected = jax.vmap(module)(x)
    close(spec(params, x)[0], expected, 5e-6)
    close(jax.vmap(lambda x: spec(params, x)[0])(x), expected, 5e-6)


def test_batch_statistics_under_a_vmap_with_a_name(equinox, rng):
    x = drawn(rng, 8, 6) + 1
    with lenient():
        module, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(6, axis_name="batch", mode="ema", momentum=0.8)
        expected, _ = jax.vmap(module, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
    norm = jn.BatchNorm(axis_name="batch")
    y, measured = jax.vmap(lambda x: norm(norm.init((6,)), x[None]), axis_name="batch")(x)
    close(measured.mean[0], x.mean(0))
    close(y[:, 0], (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5), 5e-6)
    assert y[:, 0].shape == expected.shape


HABITS = {
    "input_size, hidden_size": (lambda: jn.lstm(D, H), "cell.init(key, in_features)"),
    "key": (lambda: jn.lstm(H, key=KEY), "pass the key to cell.init(key, in_features)"),
    "the input before the state": (
        lambda: jn.step(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones(D), (jnp.ones(H), jnp.ones(H))),
        "step(cell, params, carry, x)",
    ),
    "a cell called": (lambda: jn.lstm(H)(jnp.ones(D), None), "jaxnorm.unroll(cell, params, xs)"),
    "the shape of LayerNorm": (lambda: jn.LayerNorm(6)(jn.LayerNorm().init((6,)), jnp.ones(6)), "a position, not a"),
    "LayerNorm(shape=)": (lambda: jn.LayerNorm(shape=6), "norm.init((features,))"),
    "use_weight": (lambda: jn.LayerNorm(use_weight=False), "Pass use_scale"),
    "groups, channels": (lambda: jn.GroupNorm(2, 6), "norm.init((features,))"),
    "channelwise_affine": (lambda: jn.GroupNorm(2, channelwise_affine=False), "Pass use_scale and use_bias"),
    "inference": (lambda: jn.BatchNorm(inference=True), "norm(params, x, stats)"),
    "a normalizer called": (lambda: jn.LayerNorm()(jnp.ones(6)), "Call norm(params, x)"),
    "its cell": (
        lambda: jn.unroll(import_peer("equinox").nn.GRUCell(D, H, key=KEY), None, jnp.ones((T, D))),
        "convert.equinox.load(module)",
    ),
}


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    with lenient():
        answered(*HABITS[name])


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm"])
def test_every_keyword_of_a_normalizer_is_ours_or_is_answered(equinox, kind):
    names = set(inspect.signature(getattr(equinox.nn, kind).__init__).parameters)
    assert names - {"self", "use_bias", "axis_name", "momentum"} - set(norm_keywords.SPECS) == set()
