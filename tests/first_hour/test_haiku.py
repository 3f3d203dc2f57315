"""The first hour of a user of Haiku: its cores and normalizers beside ours, with the same weights."""

import inspect

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from jaxnorm import convert
from jaxnorm._base import foreign_keywords, norm_keywords
from tests.first_hour.habits import answered, close, draw_like, drawn
from tests.tools.peers import import_peer, lenient

B, T, D, H = 2, 5, 3, 4
KEY = jax.random.key(0)
RESETS = jnp.array([[0, 0], [1, 0], [0, 0], [0, 1], [1, 0]], bool)


@pytest.fixture
def haiku():
    return import_peer("haiku")


def transformed(haiku, rng, function, *args):
    """The function with random weights."""
    with lenient():
        pure = haiku.transform(function)
        params = draw_like(pure.init(jax.random.PRNGKey(0), *args), rng)

    def call(*args):
        with lenient():
            return pure.apply(params, None, *args)

    return params, call


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "VanillaRNN"])
def test_dynamic_unroll(haiku, kind, rng):
    """It returns outputs and the last state; return_all_states is return_carries=True."""

    def run(xs, whole):
        core = getattr(haiku, kind)(H)
        return haiku.dynamic_unroll(core, xs, core.initial_state(B), return_all_states=whole)

    xs = drawn(rng, T, B, D)
    params, call = transformed(haiku, rng, lambda xs: run(xs, whole=True), xs)
    spec = jn.elman(H, activation_fn=jax.nn.relu) if kind == "VanillaRNN" else None
    found = convert.haiku.load(params, spec)
    out = jn.unroll(found.spec, found.params, xs, return_carries=True)
    outputs, states = call(xs)
    close(out.outputs, outputs)
    close(
        (out.carries.h, out.carries.c) if kind == "LSTM" else out.carries.h, tuple(states) if kind == "LSTM" else states
    )
    close(out.carry.h, jax.tree.leaves(states)[0][-1])


def test_a_state_of_haiku_goes_in_and_comes_back(haiku, rng):
    xs, state = drawn(rng, T, B, D), haiku.LSTMState(hidden=drawn(rng, B, H), cell=drawn(rng, B, H))
    params, call = transformed(haiku, rng, lambda xs, state: haiku.dynamic_unroll(haiku.LSTM(H), xs, state), xs, state)
    found = convert.haiku.load(params)
    outputs, last = call(xs, state)
    close(jn.unroll(found.spec, found.params, xs, carry=state).outputs, outputs)
    for x in xs:
        state, _ = jn.step(found.spec, found.params, state, x)
    assert type(state) is haiku.LSTMState
    close(state, last)


def test_a_core_that_is_reset(haiku, rng):
    def run(xs, resets):
        core = haiku.ResetCore(haiku.LSTM(H))
        return haiku.dynamic_unroll(core, (xs, resets), core.initial_state(B))

    xs = drawn(rng, T, B, D)
    params, call = transformed(haiku, rng, run, xs, RESETS)
    found = convert.haiku.load(params)
    out = jn.unroll(found.spec, found.params, xs, reset=RESETS)
    outputs, state = call(xs, RESETS)
    close(out.outputs, outputs)
    close((out.carry.h, out.carry.c), tuple(state))


def test_batch_first(haiku, rng):
    def run(xs):
        core = haiku.GRU(H)
        return haiku.dynamic_unroll(core, xs, core.initial_state(B), time_major=False)[0]

    xs = drawn(rng, B, T, D)
    params, call = transformed(haiku, rng, run, xs)
    found = convert.haiku.load(params)
    close(jn.unroll(found.spec, found.params, xs, time_axis=1).outputs, call(xs))


def test_a_deep_rnn_is_a_stack(haiku, rng):
    def run(xs):
        core = haiku.DeepRNN([haiku.LSTM(H), haiku.LSTM(H)])
        return haiku.dynamic_unroll(core, xs, core.initial_state(B))[0]

    xs = drawn(rng, T, B, D)
    params, call = transformed(haiku, rng, run, xs)
    found = convert.haiku.load(params, name=("lstm", "lstm_1"))
    close(jn.stack(found.spec, found.params, xs).outputs, call(xs))


NORMS = {
    "LayerNorm": ("LayerNorm", {"axis": -1, "create_scale": True, "create_offset": True}, jn.LayerNorm()),
    "LayerNorm, slice": (
        "LayerNorm",
        {"axis": slice(1, None), "create_scale": True, "create_offset": True, "param_axis": -1},
        jn.LayerNorm(slice(1, None), feature_axis=-1),
    ),
    "LayerNorm, bare": (
        "LayerNorm",
        {"axis": -1, "create_scale": False, "create_offset": False},
        jn.LayerNorm(use_scale=False, use_bias=False),
    ),
    "RMSNorm": ("RMSNorm", {"axis": -1}, jn.RMSNorm()),
    "GroupNorm": ("GroupNorm", {"groups": 2}, jn.GroupNorm(2)),
    "InstanceNorm": ("InstanceNorm", {"create_scale": True, "create_offset": True}, jn.InstanceNorm()),
}


@pytest.mark.parametrize("name", NORMS)
def test_every_normalizer_has_its_line(haiku, name, rng):
    kind, options, spec = NORMS[name]
    x = drawn(rng, 3, 4, 6) + 1
    params, call = transformed(haiku, rng, lambda x: getattr(haiku, kind)(**options)(x), x)
    (weights,) = params.values() if params else ({},)
    scale, offset = (None if name not in weights else weights[name].reshape(-1) for name in ("scale", "offset"))
    close(spec(jn.Affine(scale, offset), x)[0], call(x), 5e-6)


def test_batch_normalization_with_a_decay_rate(haiku, rng):
    """Its averages begin at zero, and are divided by 1 - decay^k in use; here that is a line of its own."""
    x = [drawn(rng, 8, 6) + 1 for _ in range(3)]
    with lenient():
        module = haiku.transform_with_state(
            lambda x, is_training: haiku.BatchNorm(True, True, decay_rate=0.8)(x, is_training)
        )
        params, state = module.init(jax.random.PRNGKey(0), x[0], True)
    norm = jn.BatchNorm(momentum=0.8, var_init=0.0)
    ours, running = norm.init((6,)), norm.initial_stats((6,))
    for batch in x:
        with lenient():
            expected, state = module.apply(params, state, None, batch, True)
        y, measured = norm(ours, batch)
        running = norm.update_running(running, measured)
        close(y, expected, 5e-6)
    with lenient():
        expected, _ = module.apply(params, state, None, x[0], False)
    corrected = running._replace(mean=running.mean / (1 - 0.8**3), var=running.var / (1 - 0.8**3))
    close(norm(ours, x[0], corrected)[0], expected, 5e-6)


HABITS = {
    "hidden_size": (lambda: jn.lstm(hidden_size=H), "Pass hidden_features"),
    "return_all_states": (lambda: run(return_all_states=True), "Pass return_carries=True"),
    "initial_state": (lambda: run(initial_state=None), "Pass carry=..."),
    "time_major": (lambda: run(time_major=False), "Pass time_axis"),
    "the state by place": (lambda: jn.unroll(jn.lstm(H), None, jnp.ones((T, B, D)), None), "by name: carry"),
    "double_bias": (lambda: jn.elman(H, double_bias=False), "One bias is the sum of both"),
    "w_i_init": (lambda: jn.gru(H, w_i_init=None), "Pass kernel_init"),
    "create_scale": (lambda: jn.LayerNorm(-1, create_scale=True), "Pass use_scale"),
    "axis, scale, offset by place": (lambda: jn.LayerNorm(-1, True, True), "it takes axis by position"),
    "param_axis": (lambda: jn.LayerNorm(param_axis=-1), "Pass feature_axis"),
    "eps": (lambda: jn.LayerNorm(eps=1e-6), "Pass epsilon"),
    "decay_rate": (lambda: jn.BatchNorm(decay_rate=0.9), "Pass momentum, the weight of the old value"),
    "cross_replica_axis": (lambda: jn.BatchNorm(cross_replica_axis="i"), "Pass axis_name"),
    "data_format": (lambda: jn.BatchNorm(data_format="NC..."), "feature_axis=1"),
    "is_training": (lambda: jn.BatchNorm()(None, jnp.ones((2, 6)), is_training=True), "norm(params, x, stats)"),
    "n_steps": (lambda: jn.SpectralNorm(n_steps=2), "Pass iterations"),
    "VanillaRNN": (lambda: jn.VanillaRNN(H), "Write jaxnorm.elman(128)"),
}


def run(**options):
    return jn.unroll(jn.lstm(H), jn.lstm(H).init(KEY, D), jnp.ones((T, B, D)), **options)


@pytest.mark.parametrize("name", HABITS)
def test_what_a_user_types_by_habit_is_answered(name):
    answered(*HABITS[name])


OURS = {"self", "axis", "scale_init"}


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "VanillaRNN"])
def test_every_keyword_of_a_core_is_answered(haiku, kind):
    names = set(inspect.signature(getattr(haiku, kind).__init__).parameters)
    assert names - OURS - set(foreign_keywords.CELLS) == set()


@pytest.mark.parametrize("kind", ["LayerNorm", "RMSNorm", "BatchNorm", "GroupNorm", "InstanceNorm"])
def test_every_keyword_of_a_normalizer_is_ours_or_is_answered(haiku, kind):
    names = set(inspect.signature(getattr(haiku, kind).__init__).parameters)
    assert names - OURS - set(norm_keywords.SPECS) == set()
