"""The first hour of a user of sequence-layers: a layer over padded sequences equals its steps; masks everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.first_hour.habits import answered, close, drawn
from tests.tools.peers import lenient

B, T, D, H = 2, 5, 3, 4
KEY = jax.random.key(0)
MISSING = "sequence_layers is not installed: the comparison with it needs `pip install sequence-layers`"
MASK = jnp.asarray([[True] * 5, [True, True, True, False, False]])


def weights(rng):
    """Weights of an LSTM in the layout of sequence-layers: flat gates i, f, g, o; and ours."""
    kernel, recurrent, bias = drawn(rng, D, 4 * H), drawn(rng, H, 4 * H), drawn(rng, 4 * H)
    theirs = {"kernel": {"kernel": kernel}, "recurrent_kernel": {"kernel": recurrent}, "bias": bias}
    params = jn.lstm(H).init(KEY, D)
    ours = params._replace(kernel=kernel.reshape(D, 4, H), recurrent=recurrent.reshape(H, 4, H), bias=bias)
    return theirs, ours


def test_a_layer_is_its_steps_whatever_lies_under_the_mask(rng):
    """Their contract: the same outputs and the same state, step by step and at once, and padding reaches nothing."""
    cell, (_, params) = jn.lstm(H), weights(rng)
    xs = jnp.where(MASK[..., None], drawn(rng, B, T, D), jnp.nan)
    whole = jn.unroll(cell, params, xs, where=MASK, time_axis=1)
    carry, ys = cell.initial_carry((B,), params=params), []
    for t in range(T):
        carry, y = jn.step(cell, params, carry, xs[:, t], where=MASK[:, t])
        ys.append(y)
    close(whole.outputs, jnp.stack(ys, axis=1))
    close(whole.carry, carry)
    assert np.all(np.isfinite(whole.outputs))
    first = jn.unroll(cell, params, xs[:, :2], where=MASK[:, :2], time_axis=1)
    close(jn.unroll(cell, params, xs[:, 2:], where=MASK[:, 2:], time_axis=1, carry=first.carry).carry, whole.carry)


def test_its_lstm(rng):
    sl = pytest.importorskip("sequence_layers.jax", reason=MISSING)
    theirs, ours = weights(rng)
    xs = jnp.where(MASK[..., None], drawn(rng, B, T, D), 0.0)
    with lenient():
        layer = sl.LSTM.Config(H).make().bind({"params": theirs})
        expected = layer.layer(sl.Sequence(xs, MASK), training=False)
        state = layer.get_initial_state(B, sl.ShapeDType((D,), jnp.float32), training=False)
        for t in range(T):
            y, state = layer.step(sl.Sequence(xs[:, t : t + 1], MASK[:, t : t + 1]), state, training=False)
            del y
    out = jn.unroll(jn.lstm(H), ours, xs, where=MASK, time_axis=1)
    close(out.outputs, jnp.where(MASK[..., None], expected.values, 0.0))  # theirs at padding: those of the padding
    close(tuple(out.carry), tuple(entry[:, 0] for entry in state))  # their state has an axis of time, of one step
    start = tuple(entry[:, 0] for entry in state)
    close(jn.unroll(jn.lstm(H), ours, xs, carry=start, time_axis=1).carry, continued(sl, theirs, xs, state))


def continued(sl, weights, xs, state):
    with lenient():
        layer = sl.LSTM.Config(H).make().bind({"params": weights})
        for t in range(T):
            _, state = layer.step(sl.Sequence.from_values(xs[:, t : t + 1]), state, training=False)
    return tuple(entry[:, 0] for entry in state)


NORMS = {
    "LayerNormalization": ({}, lambda mask: jn.LayerNorm(epsilon=1e-6)),
    "RMSNormalization": ({}, lambda mask: jn.RMSNorm(epsilon=1e-6)),
    "BatchNormalization": ({}, lambda mask: jn.BatchNorm(epsilon=1e-3)),
    "GroupNormalization": ({"num_groups": 2}, lambda mask: jn.GroupNorm(2, epsilon=1e-6)),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(name, rng):
    """Statistics of real steps alone, where they run over time."""
    sl = pytest.importorskip("sequence_layers.jax", reason=MISSING)
    options, spec = NORMS[name]
    x = jnp.where(MASK[..., None], drawn(rng, B, T, 6) + 1, 0.0)
    with lenient():
        layer = getattr(sl, name).Config(**options).make()
        variables = layer.init(KEY, sl.Sequence(x, MASK), training=True, method="layer")
        expected, _ = layer.apply(
            variables, sl.Sequence(x, MASK), training=True, method="layer", mutable=["batch_stats"]
        )
    norm = spec(MASK)
    got, _ = norm(norm.init((6,)), x, where=MASK[..., None])
    close(got, jnp.where(MASK[..., None], expected.values, 0.0), 1e-5)


HABITS = {
    "units": (lambda: jn.lstm(units=H), "Pass hidden_features"),
    "recurrent_activation": (lambda: jn.lstm(H, recurrent_activation=jax.nn.hard_sigmoid), "Pass gate_fn"),
    "mask": (lambda: jn.unroll(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((T, B, D)), mask=MASK.T), "where"),
    "training": (lambda: jn.unroll(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((T, D)), training=True), "stats"),
    "the input before the state": (
        lambda: jn.step(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((B, D)), (jnp.ones((B, H)),) * 2),
        "step(cell, params, carry, x)",
    ),
}


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])
