"""The first hour of a user of plain JAX: a cell written by hand under lax.scan, and a stream, beside ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.first_hour.habits import answered, close, draw_like, drawn

B, T, D, H = 2, 6, 3, 4
KEY = jax.random.key(0)


def weights(rng):
    """An LSTM as people write it: one matrix for [x, h], the gates i f g o side by side."""
    return {"w": 0.5 * drawn(rng, D + H, 4 * H), "b": 0.5 * drawn(rng, 4 * H)}


def by_hand(weights, carry, x):
    c, h = carry
    i, f, g, o = jnp.split(jnp.concatenate([x, h], axis=-1) @ weights["w"] + weights["b"][None], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (c, h), h


def test_an_lstm_by_hand_moves_over(rng):
    """The same arrays, sliced and reshaped; the carry stays a tuple (c, h)."""
    own, cell, xs = weights(rng), jn.lstm(H), drawn(rng, T, B, D)
    start = (drawn(rng, B, H), drawn(rng, B, H))

    def loss(own):
        return jnp.sum(jnp.sin(jax.lax.scan(lambda carry, x: by_hand(own, carry, x), start, xs)[1]))

    def our_loss(own):
        return jnp.sum(jnp.sin(jn.unroll(cell, params(own), xs, carry=start).outputs))

    def params(own):
        kernel, recurrent = (part.reshape(-1, 4, H) for part in jnp.split(own["w"], [D]))
        return cell.init(KEY, D)._replace(kernel=kernel, recurrent=recurrent, bias=own["b"])

    value, gradient = jax.value_and_grad(loss)(own)
    our_value, our_gradient = jax.value_and_grad(our_loss)(own)
    close(our_value, value)
    close(our_gradient, gradient, 1e-5)
    carry, ys = jax.lax.scan(lambda carry, x: jn.step(cell, params(own), carry, x), start, xs)
    assert type(carry) is tuple
    expected, outputs = jax.lax.scan(lambda carry, x: by_hand(own, carry, x), start, xs)
    close((carry, ys), (expected, outputs))


def test_a_step_by_hand_runs_as_it_is(rng):
    """Without moving anything: the function goes into FunctionCell, with masks and resets."""
    own, xs = weights(rng), drawn(rng, T, B, D)
    cell = jn.FunctionCell(by_hand, (jnp.zeros(H), jnp.zeros(H)), params_init=lambda key, features: own)
    start = (jnp.zeros((B, H)), jnp.zeros((B, H)))
    _, expected = jax.lax.scan(lambda carry, x: by_hand(own, carry, x), start, xs)
    out = jn.unroll(cell, own, xs, lengths=jnp.array([6, 4]))
    close(out.outputs, expected.at[4:, 1].set(0.0))


def layer_norm(x, scale, bias):
    x = np.asarray(x, np.float64)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_an_ln_lstm_by_hand_is_a_norm_at_each_site(rng):
    cell = jn.ln_lstm(H)
    params = draw_like(cell.init(KEY, D), rng)
    xs, p = drawn(rng, T, B, D), jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    c = h = np.zeros((B, H))
    expected = []
    for x in np.asarray(xs, np.float64):
        z = layer_norm(x @ p.kernel.reshape(D, -1), *p.norm.input[:2])
        z = z + layer_norm(h @ p.recurrent.reshape(H, -1), *p.norm.recurrent[:2]) + p.bias
        i, f, g, o = np.split(z, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(layer_norm(c, *p.norm.cell[:2]))
        expected.append(h)
    close(jn.unroll(cell, params, xs).outputs, np.stack(expected), 1e-5)


@pytest.mark.parametrize("make", [jn.ln_lstm, jn.rms_gru, jn.zoo.MinGRU], ids=["ln_lstm", "rms_gru", "MinGRU"])
def test_a_stream_step_by_step_is_the_sequence_with_masks_and_resets(make, rng):
    cell = make(H)
    params, xs = cell.init(KEY, D), drawn(rng, T, B, D)
    where = jnp.asarray(rng.random((T, B)) < 0.7)
    reset = jnp.asarray(rng.random((T, B)) < 0.3)
    whole = jn.unroll(cell, params, xs, where=where, reset=reset)

    def hear(carry, now):
        x, where, reset = now
        return jn.step(cell, params, carry, x, where=where, reset=reset)

    carry, ys = jax.lax.scan(hear, cell.initial_carry((B,), params=params), (xs, where, reset))
    close((ys, carry), (whole.outputs, whole.carry))
    first = jn.unroll(cell, params, xs[:2], where=where[:2], reset=reset[:2])
    rest = jn.unroll(cell, params, xs[2:], where=where[2:], reset=reset[2:], carry=first.carry)
    close(jnp.concatenate([first.outputs, rest.outputs]), whole.outputs)


HABITS = {
    "scan over a cell": (lambda: jax.lax.scan(jn.lstm(H), None, jnp.ones((T, B, D))), "jaxnorm.unroll(cell, params"),
    "init": (lambda: run(init=None), "Pass carry=..."),
    "length": (lambda: run(length=T), "lengths=... is that of each example"),
    "unroll": (lambda: run(unroll=4), "chunk chooses how many steps"),
    "the carry by place": (lambda: jn.unroll(jn.lstm(H), None, jnp.ones((T, B, D)), None), "by name: carry"),
    "a key of numbers": (lambda: jn.lstm(H).init(0, D), "Write jax.random.key(0)"),
    "a batch size": (lambda: jn.lstm(H).initial_carry(B), "Write (2,)"),
}


def run(**options):
    return jn.unroll(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((T, B, D)), **options)


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])
