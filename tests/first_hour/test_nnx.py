"""The first hour of a user of Flax NNX: its RNN and its normalizers beside ours, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.nnx as jx
from jaxnorm import convert
from tests.first_hour.habits import answered, close, draw_like, drawn
from tests.tools.peers import lenient

B, T, D, H = 2, 5, 3, 4
LENGTHS = jnp.array([5, 2])
CELLS = {"LSTMCell": nnx.LSTMCell, "OptimizedLSTMCell": nnx.OptimizedLSTMCell, "GRUCell": nnx.GRUCell}


def filled(module, rng):
    """Random numbers in all weights of a module."""
    nnx.update(module, draw_like(nnx.state(module, nnx.Param), rng))
    return module


def pair(kind, rng, **options):
    """An RNN of Flax and ours with the same weights."""
    cell = filled(CELLS[kind](D, H, rngs=nnx.Rngs(0)), rng)
    found = convert.nnx.load(cell)
    ours = jx.RNN(found.spec, D, rngs=nnx.Rngs(1), **options)
    nnx.update(ours, nnx.State({n: nnx.Param(a) for n, a in found.params._asdict().items() if hasattr(a, "shape")}))
    return nnx.RNN(cell, **options, rngs=nnx.Rngs(0)), ours


CALLS = {
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS},
    "reverse": {"reverse": True},
    "reverse, lengths": {"reverse": True, "seq_lengths": LENGTHS},
    "reverse, lengths, order": {"reverse": True, "keep_order": True, "seq_lengths": LENGTHS},
    "time first": {"time_major": True},
    "time first, reverse": {"time_major": True, "reverse": True, "keep_order": True},
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("LSTMCell", name) for name in CALLS), ("OptimizedLSTMCell", "plain"), ("GRUCell", "reverse, lengths, order")],
)
def test_every_call_of_its_rnn_runs_with_ours(kind, name, rng):
    options = CALLS[name]
    theirs, ours = pair(kind, rng)
    xs = drawn(rng, *((T, B, D) if "time_major" in options else (B, T, D)))
    with lenient():
        carry, expected = theirs(xs, return_carry=True, **options)
    after, outputs = ours(xs, return_carry=True, **options)
    real = np.ones((B, T), bool) if "seq_lengths" not in options else np.arange(T) < np.asarray(LENGTHS)[:, None]
    if "time_major" in options:
        real = real.T
    # Beyond the length of an example Flax puts out what padding gives, and we zeros.
    close(outputs, jnp.where(real[..., None], expected, 0.0))
    close(after, carry)


@pytest.mark.parametrize("option", ["return_carry", "time_major", "reverse"])
def test_options_may_stand_in_the_constructor(option, rng):
    theirs, ours = pair("LSTMCell", rng, **{option: True})
    xs = drawn(rng, T, B, D) if option == "time_major" else drawn(rng, B, T, D)
    with lenient():
        expected = theirs(xs)
    close(ours(xs), expected)


def test_a_state_goes_from_call_to_call_in_the_form_of_flax(rng):
    theirs, ours = pair("LSTMCell", rng)
    xs, start = drawn(rng, B, T, D), (drawn(rng, B, H), drawn(rng, B, H))
    with lenient():
        expected, _ = theirs(xs, initial_carry=start, return_carry=True)
    first, _ = ours(xs[:, :2], initial_carry=start, return_carry=True)
    rest, _ = ours(xs[:, 2:], initial_carry=first, return_carry=True)
    assert type(first) is tuple
    close(rest, expected)
    with lenient():
        zeros = theirs.cell.initialize_carry((B, D), nnx.Rngs(0))
    close(ours(xs, initial_carry=zeros), ours(xs))


def test_our_cell_runs_in_the_rnn_and_the_bidirectional_of_flax(rng):
    xs = drawn(rng, B, T, D)
    cell, ours = jx.RNNCell(jn.ln_lstm(H), D, rngs=nnx.Rngs(0)), jx.RNN(jn.ln_lstm(H), D, rngs=nnx.Rngs(0))
    with lenient():
        close(nnx.RNN(cell)(xs), ours(xs))
        forward, backward = (jx.RNN(jn.gru(H), D, rngs=nnx.Rngs(k)) for k in range(2))
        both = nnx.Bidirectional(forward, backward)(xs)
    close(both, jnp.concatenate([forward(xs), backward(xs, reverse=True, keep_order=True)], axis=-1))


NORMS = {
    "LayerNorm": (nnx.LayerNorm, {}, jn.LayerNorm(epsilon=1e-6)),
    "LayerNorm without bias": (nnx.LayerNorm, {"use_bias": False}, jn.LayerNorm(epsilon=1e-6, use_bias=False)),
    "LayerNorm, bare": (
        nnx.LayerNorm,
        {"use_bias": False, "use_scale": False},
        jn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False),
    ),
    "LayerNorm, reduction_axes, feature_axes": (
        nnx.LayerNorm,
        {"reduction_axes": (-2, -1), "feature_axes": -1},
        jn.LayerNorm((-2, -1), feature_axis=-1, epsilon=1e-6),
    ),
    "RMSNorm": (nnx.RMSNorm, {}, jn.RMSNorm(epsilon=1e-6)),
    "GroupNorm": (nnx.GroupNorm, {"num_groups": 3}, jn.GroupNorm(3, epsilon=1e-6)),
    "GroupNorm by size": (
        nnx.GroupNorm,
        {"num_groups": None, "group_size": 3},
        jn.GroupNorm(group_size=3, epsilon=1e-6),
    ),
    "InstanceNorm": (nnx.InstanceNorm, {}, jn.InstanceNorm(epsilon=1e-6)),
    "BatchNorm": (nnx.BatchNorm, {"momentum": 0.8}, jn.BatchNorm(momentum=0.8)),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(name, rng):
    kind, options, spec = NORMS[name]
    theirs = filled(kind(6, **options, rngs=nnx.Rngs(0)), rng)
    ours = jx.Norm(spec, 6, rngs=nnx.Rngs(0))
    nnx.update(ours, nnx.state(theirs, nnx.Param))  # the same names
    x = drawn(rng, 3, 4, 6) + 1
    with lenient():
        close(ours(x), theirs(x), 5e-6)
    if name == "BatchNorm":
        close((ours.mean[...], ours.var[...]), (theirs.mean[...], theirs.var[...]))
        with lenient():
            theirs.eval()
            ours.eval()
            close(ours(x), theirs(x), 5e-6)
            close(ours(x, use_running_average=False), theirs(x, use_running_average=False), 5e-6)


@pytest.mark.parametrize("kind", [nnx.LayerNorm, nnx.BatchNorm])
def test_the_mask_of_a_normalizer_is_called_mask(kind, rng):
    spec = {nnx.LayerNorm: jn.LayerNorm(epsilon=1e-6), nnx.BatchNorm: jn.BatchNorm()}[kind]
    x, mask = drawn(rng, 3, 4, 6), jnp.asarray(rng.random((3, 4, 6)) < 0.7)
    with lenient():
        expected = kind(6, rngs=nnx.Rngs(0))(x, mask=mask)
    close(jx.Norm(spec, 6)(x, mask=mask), jnp.where(mask, expected, 0.0), 5e-6)


class Model(nnx.Module):
    """A model as a user writes it: a normalized input, a recurrent layer, a linear head."""

    def __init__(self, rngs):
        self.norm = jx.Norm(jn.BatchNorm(momentum=0.5), D, rngs=rngs)
        self.rnn = jx.RNN(jn.bn_lstm(H, max_steps=T), D, rngs=rngs)
        self.head = nnx.Linear(H, 1, rngs=rngs)

    def __call__(self, xs):
        return self.head(self.rnn(self.norm(xs))[:, -1])


def test_a_model_trains_with_nnx_optimizer(rng):
    model, xs = Model(nnx.Rngs(0)), drawn(rng, 8, T, D)
    target = jnp.tanh(xs[:, -1, :1])
    optimizer = nnx.Optimizer(model, optax.adam(3e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, xs):
        loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(xs) - target) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    with lenient():
        losses = [float(step(model, optimizer, xs)) for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]
    assert float(jnp.abs(model.norm.mean[...] - xs.mean((0, 1))).max()) < 1e-5
    model.eval()
    before = jax.tree.map(np.asarray, nnx.state(model, nnx.BatchStat))
    with lenient():
        model(xs + 5)
    close(nnx.state(model, nnx.BatchStat), before, 0)


HABITS = {
    "rngs only": (lambda: jx.RNN(jn.lstm(H), rngs=nnx.Rngs(0)), "Write RNN(ln_lstm(128), in_features, rngs=rngs)"),
    "its cell": (
        lambda: jx.RNN(nnx.LSTMCell(D, H, rngs=nnx.Rngs(0)), D, rngs=nnx.Rngs(0)),
        "Write lstm(4); convert.nnx.load(module)",
    ),
    "its cell without inputs": (
        lambda: jx.RNN(nnx.LSTMCell(D, H, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0)),
        "Write RNN(ln_lstm(128), in_features, rngs=rngs)",
    ),
    "inputs and features": (lambda: jn.lstm(D, H), "cell.init(key, in_features)"),
    "in_features": (lambda: jn.lstm(in_features=D, hidden_features=H), "cell.init(key, in_features)"),
    "rngs of a cell": (lambda: jn.lstm(H, rngs=nnx.Rngs(0)), "pass the key to cell.init"),
    "recurrent_kernel_init": (lambda: jn.gru(H, recurrent_kernel_init=None), "Pass recurrent_init"),
    "nnx.RNN around a spec": (
        lambda: nnx.RNN(jn.lstm(H))(jnp.ones((B, T, D))),
        "jaxnorm.nnx.RNN(cell, in_features, rngs=rngs)",
    ),
    "lengths by place": (
        lambda: jx.RNN(jn.lstm(H), D, rngs=nnx.Rngs(0))(jnp.ones((B, T, D)), LENGTHS),
        "by name: initial_carry, seq_lengths",
    ),
    "jaxnorm.nnx.LayerNorm": (
        lambda: jx.LayerNorm(6, rngs=nnx.Rngs(0)),
        "Write jaxnorm.nnx.Norm(jaxnorm.LayerNorm(), num_features, rngs=rngs)",
    ),
    "jaxnorm.nnx.LSTMCell": (lambda: jx.LSTMCell(3, 4), "Write jaxnorm.nnx.RNN(jaxnorm.lstm(128), in_features"),
    "num_features of a spec": (lambda: jn.LayerNorm(num_features=6), "jaxnorm.nnx.Norm(norm, features, rngs=rngs)"),
    "features by place": (lambda: jx.Norm(jn.LayerNorm(6), 6)(jnp.ones((2, 6))), "a position, not a number"),
    "reduction_axes": (lambda: jn.LayerNorm(reduction_axes=-1), "Pass axis"),
    "feature_axes": (lambda: jn.LayerNorm(feature_axes=-1), "Pass feature_axis"),
    "use_fast_variance": (lambda: jn.LayerNorm(use_fast_variance=False), "Leave it out"),
    "param_dtype": (lambda: jn.LayerNorm(param_dtype=jnp.float32), "norm.init((features,), dtype)"),
    "the class": (lambda: jx.Norm(jn.LayerNorm, 6), "Write LayerNorm()"),
    "axis of BatchNorm": (
        lambda: jx.Norm(jn.BatchNorm(axis=-1), 6)(jnp.ones((2, 6))),
        "axis names what is averaged, so leave it out",
    ),
}


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])
