"""Weights from and to Equinox: the same outputs with random weights, both directions, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import FEATURES, HIDDEN
from tests.tools.peers import import_peer, lenient

pytestmark = pytest.mark.long


@pytest.fixture
def eqx():
    module = import_peer("equinox", "bench")
    with lenient():
        yield module


def scrambled(module, rng):
    """Random numbers in all arrays of a module."""
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), module)


CELLS = {
    "lstm": ("LSTMCell", {}),
    "lstm without bias": ("LSTMCell", {"use_bias": False}),
    "gru": ("GRUCell", {}),
    "gru without bias": ("GRUCell", {"use_bias": False}),
}


@pytest.mark.parametrize(("name", "options"), CELLS.values(), ids=CELLS)
def test_cells_there_and_back(eqx, rng, name, options):
    cell = scrambled(getattr(eqx.nn, name)(FEATURES, HIDDEN, **options, key=jax.random.key(0)), rng)
    found = convert.equinox.load(cell)
    xs = jnp.asarray(tools.random_inputs(rng)[:, 0])

    def theirs(cell):
        state = jnp.zeros(HIDDEN) if name == "GRUCell" else (jnp.zeros(HIDDEN), jnp.zeros(HIDDEN))
        outputs = []
        for x in xs:
            state = cell(x, state)
            outputs.append(state if name == "GRUCell" else state[0])
        return np.stack(outputs)

    tools.agree(jn.unroll(found.spec, found.params, xs).outputs, theirs(cell))
    other = getattr(eqx.nn, name)(FEATURES, HIDDEN, **options, key=jax.random.key(1))
    tools.same(convert.equinox.export(found.spec, found.params, into=other), cell)


def test_a_gru_with_all_biases(eqx, rng):
    """The recurrent biases of r and z are one sum with the others there."""
    cell = jn.gru(HIDDEN)
    params = tools.random_params(cell, rng)
    module = eqx.nn.GRUCell(FEATURES, HIDDEN, key=jax.random.key(1))
    again = convert.equinox.load(convert.equinox.export(cell, params, into=module))
    xs = jnp.asarray(tools.random_inputs(rng))
    tools.agree(jn.unroll(again.spec, again.params, xs).outputs, jn.unroll(cell, params, xs).outputs)


NORMS = {
    "layer": lambda nn: nn.LayerNorm(6, eps=1e-3),
    "layer, 2 axes, no bias": lambda nn: nn.LayerNorm((4, 6), use_bias=False),
    "rms": lambda nn: nn.RMSNorm(6, eps=1e-3),
    "group": lambda nn: nn.GroupNorm(3, 6),
    "group, bare": lambda nn: nn.GroupNorm(3, channelwise_affine=False),
}


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_normalizers_there_and_back(eqx, rng, make):
    module = scrambled(make(eqx.nn), rng)
    found = convert.equinox.load(module)
    x = jnp.asarray(rng.standard_normal((3, 4, 6)) + 1, jnp.float32)
    if "group" in type(module).__name__.lower():
        expected = np.moveaxis(jax.vmap(module)(jnp.moveaxis(x, -1, 1)), 1, -1)
    else:
        function = module if len(module.shape) == 2 else jax.vmap(module)
        expected = jax.vmap(function)(x)
    tools.agree(found.spec(found.params, x)[0], expected)
    tools.same(convert.equinox.export(found.spec, found.params, into=make(eqx.nn)), module)


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_batch_norm_there_and_back(eqx, rng, mode):
    def make():
        return eqx.nn.make_with_state(eqx.nn.BatchNorm)(6, "batch", momentum=0.9, mode=mode)

    module, state = make()
    with pytest.raises(ValueError, match="seen no data"):
        convert.equinox.load(module, state=state)
    module = scrambled(module, rng) if mode == "none" else eqx.tree_at(
        lambda m: (m.weight, m.bias), module, tuple(jnp.asarray(rng.standard_normal((2, 6)), jnp.float32))
    )  # fmt: skip
    x = jnp.asarray(rng.standard_normal((3, 6, 4)) + 1, jnp.float32)

    def run(module, state, inference):
        return jax.vmap(
            lambda x: module(x, state, inference=inference), axis_name="batch", out_axes=(0, None)
        )(x)  # fmt: skip

    for _ in range(2):
        _, state = run(module, state, False)
    found = convert.equinox.load(module, state=state)
    ours, _ = found.spec(found.params, jnp.moveaxis(x, 1, -1), found.stats)
    tools.agree(jnp.moveaxis(ours, -1, 1), run(module, state, True)[0])
    other, fresh = make()
    filled, filled_state = convert.equinox.export(found.spec, found.params, found.stats, into=other, state=fresh)
    tools.agree(run(filled, filled_state, True)[0], run(module, state, True)[0])
    again = convert.equinox.load(filled, state=filled_state)
    tools.agree(again.stats.var, found.stats.var)
    with pytest.raises(ValueError, match="Pass state="):
        convert.equinox.load(module)


def test_what_does_not_fit_is_refused(eqx, rng):
    gru = eqx.nn.GRUCell(FEATURES, HIDDEN, key=jax.random.key(0))
    with pytest.raises(TypeError, match="Linear is no module that has a counterpart"):
        convert.equinox.load(eqx.nn.Linear(2, 2, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="GRUCell is another kind of module"):
        convert.equinox.export(jn.lstm(HIDDEN), tools.random_params(jn.lstm(HIDDEN), rng), into=gru)
    with pytest.raises(ValueError, match=r"weight_ih is float32\(12, 3\), the module has float32\(15, 3\)"):
        convert.equinox.export(jn.gru(4), tools.random_params(jn.gru(4), rng), into=gru)
    bare = jn.gru(HIDDEN, use_bias=False)
    with pytest.raises(ValueError, match="the module has bias, bias_n, which the spec has not"):
        convert.equinox.export(bare, tools.random_params(bare, rng), into=gru)
    with pytest.raises(ValueError, match=r"spec has epsilon=1e-05, but the weights are those of epsilon=0.1"):
        convert.equinox.export(jn.LayerNorm(), jn.LayerNorm().init((3,)), into=eqx.nn.LayerNorm(3, eps=0.1))
    short = eqx.tree_at(lambda cell: cell.bias, gru, jnp.zeros(4))
    with pytest.raises(ValueError, match=r"bias must have shape \(3 H,\) = \(15,\), got \(4,\)"):
        convert.equinox.load(short)
