"""Weights from and to Haiku: the same outputs with random weights, both directions, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import BATCH, FEATURES, HIDDEN
from tests.tools.peers import import_peer, lenient

pytestmark = pytest.mark.long


@pytest.fixture
def hk():
    module = import_peer("haiku", "bench")
    with lenient():
        yield module


CORES = {
    "lstm": lambda hk: hk.LSTM(HIDDEN),
    "gru": lambda hk: hk.GRU(HIDDEN),
    "vanilla": lambda hk: hk.VanillaRNN(HIDDEN),
    "vanilla, one bias": lambda hk: hk.VanillaRNN(HIDDEN, double_bias=False),
}


@pytest.mark.parametrize("make", CORES.values(), ids=CORES)
def test_cores_there_and_back(hk, rng, make):
    xs = jnp.asarray(tools.random_inputs(rng)) * 0.3

    @hk.without_apply_rng
    @hk.transform
    def theirs(xs):
        core = make(hk)
        return hk.static_unroll(core, xs, core.initial_state(BATCH))[0]

    params = tools.random_like(theirs.init(jax.random.key(0), xs), rng)
    found = convert.haiku.load(params)
    expected = theirs.apply(params, xs)
    tools.agree(jn.unroll(found.spec, found.params, xs).outputs, expected)
    exported, state = convert.haiku.export(found.spec, found.params)
    assert state == {}
    if "one bias" not in str(make.__code__.co_names):
        tools.agree(theirs.apply({k: exported[k] for k in exported}, xs), expected)
    again = convert.haiku.load(exported)
    jax.tree.map(tools.agree, again.params, found.params)  # the one at the forget gate rounds
    if isinstance(found.spec, jn.zoo.ResetBeforeGRU):
        tools.same(again.params, found.params)
        kept = convert.haiku.load(params, jn.zoo.ResetBeforeGRU(HIDDEN))
        assert kept.spec.update_gate == "keep"
        tools.agree(jn.unroll(kept.spec, kept.params, xs).outputs, expected)
        tools.same(convert.haiku.export(*kept[:2])[0], exported)


def test_one_module_of_a_model(hk, rng):
    cell = jn.lstm(HIDDEN)
    first, second = (tools.random_params(cell, rng) for _ in range(2))
    params = (
        convert.haiku.export(cell, first, name="net/~/lstm")[0]
        | convert.haiku.export(cell, second, name="net/~/lstm_1")[0]
    )
    jax.tree.map(tools.agree, convert.haiku.load(params, name="net/~/lstm_1").params, second)
    with pytest.raises(ValueError, match=r"there are net/~/lstm, net/~/lstm_1. Pass name="):
        convert.haiku.load(params)
    with pytest.raises(ValueError, match="no module name='lstm'"):
        convert.haiku.load(params, name="lstm")


NORMS = {
    "layer": (lambda hk: hk.LayerNorm(-1, True, True, eps=1e-3), jn.LayerNorm(epsilon=1e-3)),
    "layer without offset": (lambda hk: hk.LayerNorm(-1, True, False), jn.LayerNorm(use_bias=False)),
    "rms": (lambda hk: hk.RMSNorm(-1, eps=1e-3), jn.RMSNorm(epsilon=1e-3)),
    "group": (lambda hk: hk.GroupNorm(3), jn.GroupNorm(3)),
}


@pytest.mark.parametrize(("make", "spec"), NORMS.values(), ids=NORMS)
def test_normalizers_there_and_back(hk, rng, make, spec):
    x = jnp.asarray(rng.standard_normal((3, 4, 6)) + 1, jnp.float32)
    module = hk.without_apply_rng(hk.transform(lambda x: make(hk)(x)))
    params = tools.random_like(module.init(jax.random.key(0), x), rng)
    found = convert.haiku.load(params, spec)
    tools.agree(spec(found.params, x)[0], module.apply(params, x), 4e-6)
    exported, _ = convert.haiku.export(spec, found.params)
    tools.same(exported, jax.tree.map(np.asarray, params))


@pytest.mark.parametrize("shape", [(5, 6), (2, 4, 6)])
def test_batch_norm_there_and_back(hk, rng, shape):
    x = jnp.asarray(rng.standard_normal(shape) + 1, jnp.float32)
    module = hk.without_apply_rng(
        hk.transform_with_state(lambda x, train: hk.BatchNorm(True, True, 0.9)(x, is_training=train))
    )
    params, state = module.init(jax.random.key(0), x, True)
    params = tools.random_like(params, rng)
    for _ in range(2):
        _, state = module.apply(params, state, x, True)
    spec = jn.BatchNorm(momentum=0.9)
    found = convert.haiku.load(params, spec, state=state)
    assert float(found.stats.count) == 2.0
    expected, _ = module.apply(params, state, x, False)
    tools.agree(spec(found.params, x, found.stats)[0], expected)
    exported = convert.haiku.export(spec, found.params, found.stats, axes=len(shape))
    tools.same(exported[0], jax.tree.map(np.asarray, params))
    jax.tree.map(tools.agree, exported[1], jax.tree.map(np.asarray, state, is_leaf=lambda a: hasattr(a, "shape")))
    tools.agree(module.apply(*exported, x, False)[0], expected)
    with pytest.raises(ValueError, match="Pass state="):
        convert.haiku.load(params, spec)


def test_what_has_no_counterpart_is_refused(hk, rng, key):
    with pytest.raises(TypeError, match="spec must be one of LayerNorm"):
        convert.haiku.load({"layer_norm": {"scale": np.ones(3, np.float32)}})
    linear = {"w": np.ones((5, 8), np.float32), "b": np.ones(7, np.float32)}
    with pytest.raises(ValueError, match=r"linear/b must have shape \(4 H,\) = \(8,\), got \(7,\)"):
        convert.haiku.load({"lstm/linear": linear})
    with pytest.raises(ValueError, match=r"linear/w must have shape \(I \+ H, 4 H\), got \(2, 8\)"):
        convert.haiku.load({"lstm/linear": linear | {"w": np.ones((2, 8), np.float32)}})
    tanh = jn.elman(2)
    for spec, match in (
        (tanh, "relu only"),
        (jn.ln_lstm(2), "norm=CellNorms"),
        (jn.lstm(2, learn_carry=True), "learn_carry"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.haiku.export(spec, spec.init(key, FEATURES))


DEEP = {
    "stack": lambda hk, cores: hk.DeepRNN(cores),
    "skip": lambda hk, cores: hk.deep_rnn_with_skip_connections(cores),
}
NAMES = ("lstm", "lstm_1", "gru", "vanilla_rnn")


@pytest.mark.parametrize("skip", [False, True], ids=DEEP)
def test_cores_one_upon_the_other(hk, rng, key, skip):
    """Haiku puts the input before the outputs of the core below, and skip_stack after them."""

    def program(xs):
        cores = [hk.LSTM(4), hk.LSTM(2), hk.GRU(5), hk.VanillaRNN(3)]
        core = DEEP["skip" if skip else "stack"](hk, cores)
        return hk.dynamic_unroll(core, xs, core.initial_state(tools.BATCH))[0]

    there = hk.without_apply_rng(hk.transform(program))
    xs = tools.random_inputs(rng)
    params = tools.random_like(there.init(key, xs), rng)
    expected = there.apply(params, xs)
    found = convert.haiku.load(params, name=NAMES, skip_connections=skip)
    run = jn.skip_stack if skip else jn.stack
    tools.agree(run(found.spec, found.params, jnp.asarray(xs)).outputs, expected)
    assert found.notes[-1] == f"run the cells by jaxnorm.{'skip_stack' if skip else 'stack'}"
    exported, _ = convert.haiku.export(found.spec, found.params, skip_connections=skip)
    assert exported.keys() == params.keys()
    tools.agree(there.apply(exported, xs), expected)
    with pytest.raises(ValueError, match=rf"layer 1 takes .* features.*Pass skip_connections={skip}\."):
        convert.haiku.load(params, name=NAMES, skip_connections=not skip)
