"""Weights from and to Flax linen and NNX: the same outputs with random weights, both directions, what is refused."""

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import FEATURES, HIDDEN
from tests.tools.peers import lenient

pytestmark = pytest.mark.long


@pytest.fixture
def linen():
    with lenient():
        yield flax.linen


@pytest.fixture
def nnx():
    with lenient():
        yield flax.nnx


LINEN_CELLS = {
    "lstm": lambda linen: linen.LSTMCell(HIDDEN),
    "optimized lstm": lambda linen: linen.OptimizedLSTMCell(HIDDEN),
    "gru": lambda linen: linen.GRUCell(HIDDEN),
    "simple": lambda linen: linen.SimpleCell(HIDDEN),
    "simple, another function": lambda linen: linen.SimpleCell(HIDDEN, activation_fn=jax.nn.softplus),
}


@pytest.mark.parametrize("make", LINEN_CELLS.values(), ids=LINEN_CELLS)
def test_linen_cells_there_and_back(linen, rng, make):
    cell = make(linen)
    module = linen.RNN(cell)
    xs = np.moveaxis(tools.random_inputs(rng), 0, 1)
    variables = tools.random_like(module.init(jax.random.key(0), xs), rng)
    found = convert.linen.load(variables, module)
    assert found.notes == ("time_major=False: pass time_axis=-2",)
    expected = module.apply(variables, xs)
    tools.agree(jn.unroll(found.spec, found.params, jnp.asarray(xs), time_axis=-2).outputs, expected)
    exported = convert.linen.export(found.spec, found.params)
    tools.same(jax.tree.map(jnp.asarray, exported["params"]), variables["params"]["cell"])
    tools.same(convert.linen.load(variables, cell, prefix="cell/").params, found.params)
    if "simple" not in type(cell).__name__.lower():  # names tell the rest
        tools.same(convert.linen.load(exported).params, found.params)


NNX_CELLS = {
    "lstm": lambda nnx: nnx.LSTMCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)),
    "optimized lstm": lambda nnx: nnx.OptimizedLSTMCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)),
    "gru": lambda nnx: nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)),
    "simple": lambda nnx: nnx.SimpleCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0)),
}


def scramble(nnx, module, rng):
    state = nnx.state(module, (nnx.Param, nnx.BatchStat))
    nnx.update(module, jax.tree.map(lambda a: jnp.asarray(np.abs(rng.standard_normal(a.shape)) + 0.1, a.dtype), state))
    return module


@pytest.mark.parametrize("make", NNX_CELLS.values(), ids=NNX_CELLS)
def test_nnx_cells_there_and_back(nnx, rng, make):
    cell = scramble(nnx, make(nnx), rng)
    module = nnx.RNN(cell, time_major=True)
    found = convert.nnx.load(module)
    xs = jnp.asarray(tools.random_inputs(rng)) * 0.3
    expected = module(xs)
    tools.agree(jn.unroll(found.spec, found.params, xs).outputs, expected)
    other = make(nnx)
    assert convert.nnx.export(found.spec, found.params, into=other) is other
    tools.agree(nnx.RNN(other, time_major=True)(xs), expected, 1e-9)
    tools.same(convert.nnx.load(other).params, found.params)


def test_a_gru_with_all_biases_goes_where_there_is_room(linen, nnx, rng):
    """linen has the candidate's recurrent bias; those of r and z are one sum with the others; NNX has none."""
    cell = jn.gru(HIDDEN)
    params = tools.random_params(cell, rng)
    xs = jnp.asarray(tools.random_inputs(rng))
    expected = jn.unroll(cell, params, xs).outputs
    again = convert.linen.load(convert.linen.export(cell, params))
    tools.agree(jn.unroll(again.spec, again.params, xs).outputs, expected)
    module = nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"nnx.GRUCell has none. Set it to zero"):
        convert.nnx.export(cell, params, into=module)
    without = params._replace(recurrent_bias=params.recurrent_bias.at[2 * HIDDEN :].set(0.0))
    filled = convert.nnx.load(convert.nnx.export(cell, without, into=module))
    tools.agree(jn.unroll(filled.spec, filled.params, xs).outputs, jn.unroll(cell, without, xs).outputs)


NORMS = {
    "layer": ("LayerNorm", {"epsilon": 1e-3}),
    "layer without bias": ("LayerNorm", {"use_bias": False}),
    "layer, bare": ("LayerNorm", {"use_bias": False, "use_scale": False}),
    "rms": ("RMSNorm", {"epsilon": 1e-3}),
    "group": ("GroupNorm", {"num_groups": 3}),
    "groups by size": ("GroupNorm", {"num_groups": None, "group_size": 3}),
    "instance": ("InstanceNorm", {}),
    "batch": ("BatchNorm", {"use_running_average": True, "momentum": 0.9}),
    "batch without scale": ("BatchNorm", {"use_running_average": True, "use_scale": False}),
}


@pytest.mark.parametrize(("name", "options"), NORMS.values(), ids=NORMS)
def test_linen_normalizers_there_and_back(linen, rng, name, options):
    module = getattr(linen, name)(**options)
    x = jnp.asarray(rng.standard_normal((3, 4, 6)) + 1, jnp.float32)
    variables = jax.tree.map(jnp.abs, tools.random_like(module.init(jax.random.key(0), x), rng))
    found = convert.linen.load(variables, module)
    tools.agree(found.spec(found.params, x, found.stats or None)[0], module.apply(variables, x), 4e-6)
    exported = convert.linen.export(found.spec, found.params, found.stats)
    tools.same({key: exported[key] for key in variables}, jax.tree.map(np.asarray, variables))
    tools.same(convert.linen.load(exported, found.spec)[1:3], found[1:3])


@pytest.mark.parametrize(("name", "options"), NORMS.values(), ids=NORMS)
def test_nnx_normalizers_there_and_back(nnx, rng, name, options):
    module = scramble(nnx, getattr(nnx, name)(6, **options, rngs=nnx.Rngs(0)), rng)
    x = jnp.asarray(rng.standard_normal((3, 4, 6)) + 1, jnp.float32)
    found = convert.nnx.load(module)
    expected = module(x)
    tools.agree(found.spec(found.params, x, found.stats or None)[0], expected, 4e-6)
    other = getattr(nnx, name)(6, **options, rngs=nnx.Rngs(1))
    tools.agree(convert.nnx.export(found.spec, found.params, found.stats, into=other)(x), expected, 1e-9)
    tools.same(convert.nnx.load(other)[1:3], found[1:3])


def test_what_linen_has_and_we_have_not_is_refused(linen, rng):
    x = jnp.ones((2, FEATURES))
    for cell, match in ((linen.SimpleCell(HIDDEN, residual=True), "residual=True cannot be represented"),):
        carry = cell.initialize_carry(jax.random.key(0), x.shape)
        with pytest.raises(ValueError, match=match):
            convert.linen.load(cell.init(jax.random.key(0), carry, x), cell)
    dense = linen.Dense(3)
    with pytest.raises(TypeError, match="Dense is no module"):
        convert.linen.load(dense.init(jax.random.key(0), x), dense)
    with pytest.raises(ValueError, match="collections cache not understood"):
        convert.linen.load({"params": {}, "cache": {}}, linen.LayerNorm())
    module = linen.LayerNorm(axis_name="i", dtype=jnp.bfloat16)
    noted = convert.linen.load({"scale": jnp.ones(3), "bias": jnp.ones(3)}, module)
    assert noted.spec.axis_name == "i"
    assert "dtype=bfloat16" in noted.notes[0]


def test_wrong_arrays_are_named(linen, rng):
    cell = jn.lstm(HIDDEN)
    params = convert.linen.export(cell, tools.random_params(cell, rng))["params"]
    with pytest.raises(ValueError, match=r"ho/bias must have shape \(H,\) = \(5,\), got \(4,\)"):
        convert.linen.load(params | {"ho": {"kernel": params["ho"]["kernel"], "bias": np.ones(4, np.float32)}})
    with pytest.raises(ValueError, match="hf/kernel, hf/bias are missing"):
        convert.linen.load({name: value for name, value in params.items() if name != "hf"})
    with pytest.raises(ValueError, match="peephole/kernel not understood"):
        convert.linen.load(params | {"peephole": {"kernel": np.ones(2, np.float32)}})
    simple = {"i": {"kernel": np.ones((3, 2), np.float32), "bias": np.ones(2, np.float32)}}
    with pytest.raises(ValueError, match="nonlinearity of a SimpleCell"):
        convert.linen.load(simple | {"h": {"kernel": np.ones((2, 2), np.float32)}})


def test_modules_that_compute_something_else_are_not_filled(nnx, rng):
    gru = nnx.GRUCell(FEATURES, HIDDEN, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="GRUCell is another kind of cell"):
        convert.nnx.export(jn.lstm(HIDDEN), tools.random_params(jn.lstm(HIDDEN), rng), into=gru)
    small = jn.gru(4)
    params = tools.random_params(small, rng)._replace(recurrent_bias=jnp.zeros(12))
    with pytest.raises(ValueError, match=r"dense_i/kernel must have shape \(3, 15\) as in the module, got \(3, 12\)"):
        convert.nnx.export(small, params, into=gru)
    norm = nnx.LayerNorm(3, rngs=nnx.Rngs(0))  # with epsilon 1e-6
    with pytest.raises(ValueError, match="spec has epsilon=1e-05, but the weights are those of epsilon=1e-06"):
        convert.nnx.export(jn.LayerNorm(), jn.LayerNorm().init((3,)), into=norm)
    with pytest.raises(ValueError, match=r"norm=CellNorms.* cannot be represented"):
        convert.linen.export(jn.ln_lstm(2), jn.ln_lstm(2).init(jax.random.key(0), 3))
