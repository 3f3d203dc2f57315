"""The first hour of a user of Flax linen: its RNN and its normalizers beside ours, with the same weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import jaxnorm as jn
import jaxnorm.linen as jl
from jaxnorm import convert
from tests.first_hour.habits import answered, close, draw_like, drawn
from tests.tools.peers import lenient

B, T, D, H = 2, 5, 3, 4
LENGTHS = jnp.array([5, 2])
KEY = jax.random.key(0)
CELLS = {"LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell, "SimpleCell": nn.SimpleCell}


def pair(kind, rng, **options):
    """The RNN of linen and ours, each with its variables; the weights are the same."""
    theirs = nn.RNN(CELLS[kind](H), **options)
    with lenient():
        variables = draw_like(theirs.init(KEY, jnp.ones((B, T, D))), rng)
    found = convert.linen.load(variables, theirs)
    names = {name: array for name, array in found.params._asdict().items() if hasattr(array, "shape")}
    return (theirs, variables), (jl.RNN(found.spec, **options), {"params": names})


CALLS = {
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS},
    "reverse, lengths": {"reverse": True, "seq_lengths": LENGTHS},
    "reverse, lengths, order": {"reverse": True, "keep_order": True, "seq_lengths": LENGTHS},
    "time first, reverse": {"time_major": True, "reverse": True, "keep_order": True},
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("LSTMCell", name) for name in CALLS), ("GRUCell", "reverse, lengths"), ("SimpleCell", "lengths")],
)
def test_every_call_of_its_rnn_runs_with_ours(kind, name, rng):
    options = CALLS[name]
    (theirs, their_variables), (ours, variables) = pair(kind, rng)
    xs = drawn(rng, *((T, B, D) if "time_major" in options else (B, T, D)))
    with lenient():
        carry, expected = theirs.apply(their_variables, xs, return_carry=True, **options)
    after, outputs = ours.apply(variables, xs, return_carry=True, **options)
    real = np.ones((B, T), bool) if "seq_lengths" not in options else np.arange(T) < np.asarray(LENGTHS)[:, None]
    real = real.T if "time_major" in options else real
    # Beyond the length of an example Flax puts out what padding gives, and we zeros.
    close(outputs, jnp.where(real[..., None], expected, 0.0))
    close(after, carry)


def test_a_state_goes_from_call_to_call_in_the_form_of_flax(rng):
    (theirs, their_variables), (ours, variables) = pair("LSTMCell", rng, return_carry=True)
    xs, start = drawn(rng, B, T, D), (drawn(rng, B, H), drawn(rng, B, H))
    with lenient():
        _, expected = theirs.apply(their_variables, xs, initial_carry=start)
    first, _ = ours.apply(variables, xs[:, :2], initial_carry=start)
    _, rest = ours.apply(variables, xs[:, 2:], initial_carry=first)
    assert type(first) is tuple
    close(rest, expected[:, 2:])


def test_our_modules_run_in_the_drivers_of_linen(rng):
    xs = drawn(rng, B, T, D)
    cell, ours = jn.ln_lstm(H), jl.RNN(jn.ln_lstm(H))
    params = ours.init(KEY, xs)["params"]
    with lenient():
        stock = nn.RNN(jl.RNNCell(cell)).apply({"params": {"cell": params}}, xs)
        both = {"params": {"forward_rnn": params, "backward_rnn": draw_like(params, rng)}}
        joined = nn.Bidirectional(jl.RNN(cell), jl.RNN(cell)).apply(both, xs, seq_lengths=LENGTHS)
    close(stock, ours.apply({"params": params}, xs))
    forward, backward = (both["params"][name] for name in ("forward_rnn", "backward_rnn"))
    expected = (
        ours.apply({"params": forward}, xs, seq_lengths=LENGTHS),
        ours.apply({"params": backward}, xs, seq_lengths=LENGTHS, reverse=True, keep_order=True),
    )
    close(joined, jnp.concatenate(expected, axis=-1))


NORMS = {
    "LayerNorm": (nn.LayerNorm(), jn.LayerNorm(epsilon=1e-6)),
    "LayerNorm without scale": (nn.LayerNorm(use_scale=False), jn.LayerNorm(epsilon=1e-6, use_scale=False)),
    "LayerNorm, reduction_axes": (
        nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=-1),
        jn.LayerNorm((-2, -1), feature_axis=-1, epsilon=1e-6),
    ),
    "RMSNorm": (nn.RMSNorm(), jn.RMSNorm(epsilon=1e-6)),
    "GroupNorm": (nn.GroupNorm(num_groups=2), jn.GroupNorm(num_groups=2, epsilon=1e-6)),
    "GroupNorm by size": (nn.GroupNorm(num_groups=None, group_size=2), jn.GroupNorm(group_size=2, epsilon=1e-6)),
    "InstanceNorm": (nn.InstanceNorm(), jn.InstanceNorm(epsilon=1e-6)),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(name, rng):
    theirs, spec = NORMS[name]
    x = drawn(rng, 3, 4, 6) + 1
    with lenient():
        variables = draw_like(theirs.init(KEY, x), rng)
        expected = theirs.apply(variables, x)
    ours = jl.Norm(spec)
    assert jax.tree.map(jnp.shape, ours.init(KEY, x)) == jax.tree.map(jnp.shape, variables)
    close(ours.apply(variables, x), expected, 5e-6)


def test_batch_statistics_are_those_of_flax(rng):
    x = drawn(rng, 8, 4, 6) + 1
    theirs, ours = nn.BatchNorm(momentum=0.8), jl.Norm(jn.BatchNorm(momentum=0.8))
    with lenient():
        start = theirs.init(KEY, x, use_running_average=False)
        expected, moved = theirs.apply(start, x, use_running_average=False, mutable=["batch_stats"])
    variables = ours.init(KEY, x, use_running_average=False)
    outputs, updates = ours.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    close(outputs, expected, 5e-6)
    for name in ("mean", "var"):
        close(updates["batch_stats"][name], moved["batch_stats"][name])
    with lenient():
        expected = theirs.apply(start | moved, x + 1, use_running_average=True)
    close(ours.apply(variables | updates, x + 1, use_running_average=True), expected, 5e-6)


class Model(nn.Module):
    """A model as a user writes it, with a flag for training."""

    @nn.compact
    def __call__(self, xs, train: bool):
        xs = jl.Norm(jn.BatchNorm(momentum=0.5))(xs, use_running_average=not train)
        ys = jl.RNN(jn.bn_lstm(H, max_steps=T))(xs, use_running_average=not train)
        return nn.Dense(1)(ys[:, -1])


class BatchState(TrainState):
    batch_stats: dict


def test_a_model_trains_with_train_state_and_batch_stats(rng):
    model, xs = Model(), drawn(rng, 8, T, D)
    target = jnp.tanh(xs[:, -1, :1])
    with lenient():
        variables = model.init(KEY, xs, train=False)
    state = BatchState.create(
        apply_fn=model.apply, params=variables["params"], tx=optax.adam(3e-2), batch_stats=variables["batch_stats"]
    )

    @jax.jit
    def step(state):
        def loss(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, updates = state.apply_fn(variables, xs, train=True, mutable=["batch_stats"])
            return jnp.mean((outputs - target) ** 2), updates

        (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, batch_stats=updates["batch_stats"]), value

    losses = []
    with lenient():
        for _ in range(25):
            state, value = step(state)
            losses.append(float(value))
        evaluated = model.apply({"params": state.params, "batch_stats": state.batch_stats}, xs, train=False)
    assert losses[-1] < 0.5 * losses[0]
    close(state.batch_stats["Norm_0"]["mean"], xs.mean((0, 1)), 1e-5)
    assert float(jnp.mean((evaluated - target) ** 2)) < losses[0]


HABITS = {
    "its cell": (lambda: jl.RNN(nn.LSTMCell(H)), "Write lstm(4)", "convert.linen.load(variables, module)"),
    "nn.RNN around a spec": (
        lambda: nn.RNN(jn.lstm(H)).init(KEY, jnp.ones((B, T, D))),
        "Write jaxnorm.linen.RNN(cell)",
    ),
    "features": (lambda: jn.lstm(features=H), "Pass hidden_features"),
    "carry of a spec": (lambda: jn.lstm(H).initialize_carry(KEY, (B, D)), "jaxnorm.linen.RNN(cell)"),
    "variable_broadcast": (lambda: jl.RNN(jn.lstm(H), variable_broadcast="params"), "RNNCell in the RNN of Flax"),
    "lengths by place": (
        lambda: jl.RNN(jn.lstm(H)).init(KEY, jnp.ones((B, T, D)), LENGTHS),
        "by name: initial_carry, init_key, seq_lengths",
    ),
    "axis of BatchNorm": (
        lambda: jl.Norm(jn.BatchNorm(axis=-1), use_running_average=False).init(KEY, jnp.ones((2, 6))),
        "axis names what is averaged, so leave it out",
    ),
    "jaxnorm.linen.LayerNorm": (lambda: jl.LayerNorm(), "Write jaxnorm.linen.Norm(jaxnorm.LayerNorm())"),
    "jaxnorm.linen.GRUCell": (lambda: jl.GRUCell(4), "Write jaxnorm.linen.RNN(jaxnorm.gru(128))"),
    "a spec called": (lambda: jn.LayerNorm()(jnp.ones((2, 6))), "jaxnorm.linen.Norm(norm)(x)"),
    "use_running_average": (lambda: jn.BatchNorm(use_running_average=True), "jaxnorm.linen.Norm"),
    "name": (lambda: jn.LayerNorm(name="norm"), "A spec has no name"),
}


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    with lenient():
        answered(*HABITS[name])


def test_batch_statistics_without_the_flag_are_refused_as_in_flax():
    for module in (nn.BatchNorm(), jl.Norm(jn.BatchNorm())):
        with lenient(), pytest.raises(ValueError, match="use_running_average"):
            module.init(KEY, jnp.ones((2, 6)))
