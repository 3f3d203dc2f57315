"""Whole models of Flax, NNX, Haiku and Equinox: every layer by its path, and the same outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import random_like

TOKENS, WIDTH, HIDDEN = 9, 3, 4


def positive(tree):
    """Variances must be positive."""
    return jax.tree.map(lambda array: jnp.abs(array) + 0.5, tree)


def head_of(layer, x, kernel="kernel", bias="bias"):
    return jnp.einsum("...i,io->...o", x, layer[kernel]) + layer[bias].reshape((1,) * (x.ndim - 1) + (-1,))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, tokens):
        x = linen.Embed(TOKENS, WIDTH, name="embed")(tokens)
        x = linen.RNN(linen.OptimizedLSTMCell(HIDDEN), name="lstm")(x)
        x = linen.LayerNorm(name="row", epsilon=1e-3)(x)
        x = linen.RNN(linen.GRUCell(HIDDEN), name="gru")(x)
        x = linen.BatchNorm(use_running_average=True, name="batch")(x)
        return linen.Dense(TOKENS, name="head")(x)


@pytest.fixture
def linen_variables(rng):
    variables = Linen().init(jax.random.key(0), jnp.zeros((2, 5), jnp.int32))
    return random_like(variables, rng) | {"batch_stats": positive(variables["batch_stats"])}


def run_layers(model, tokens, lstm, gru, row, batch, head="head"):
    x = model["embed"]["embedding"][tokens]
    x = jn.unroll(model[lstm].spec, model[lstm].params, x, time_axis=1).outputs
    x, _ = model[row].spec(model[row].params, x)
    x = jn.unroll(model[gru].spec, model[gru].params, x, time_axis=1).outputs
    x, _ = model[batch].spec(model[batch].params, x, model[batch].stats)
    return head_of(model[head], x)


def test_the_variables_of_linen(rng, linen_variables):
    tokens = rng.integers(TOKENS, size=(2, 5))
    specs = {"row": linen.LayerNorm(epsilon=1e-3), "batch": jn.BatchNorm(epsilon=1e-5)}
    model = convert.linen.load_model(linen_variables, specs)
    expected = Linen().apply(linen_variables, tokens)
    tools.agree(run_layers(model, tokens, "OptimizedLSTMCell_0", "GRUCell_0", "row", "batch"), expected, 1e-5)
    assert model.kinds == {"OptimizedLSTMCell_0": "LSTM", "row": "LayerNorm", "GRUCell_0": "GRU", "batch": "BatchNorm"}
    bare = convert.linen.load_model(linen_variables["params"])
    assert set(bare.specs) == {"OptimizedLSTMCell_0", "GRUCell_0"}
    assert set(bare["batch"]) == {"scale", "bias"}
    deeper = {"params": {"net": linen_variables["params"]}, "batch_stats": {"net": linen_variables["batch_stats"]}}
    tools.same(convert.linen.load_model(deeper, specs, prefix="net/").params, model.params)


def test_the_only_layer_of_linen_that_fits(linen_variables):
    model = convert.linen.load_model(linen_variables)
    only = {"params": {name: linen_variables["params"][name] for name in ("embed", "GRUCell_0", "row", "head")}}
    found = convert.linen.load(only)
    tools.same(found.params, model["GRUCell_0"].params)
    assert found.notes == ("the one layer that fits has the prefix 'GRUCell_0/'; the other arrays are left out",)
    for module in (linen.LayerNorm(epsilon=1e-3), jn.LayerNorm(epsilon=1e-3)):
        found = convert.linen.load(only, module)
        assert found.spec.epsilon == 1e-3
        tools.same(found.params.scale, model["row"]["scale"])
    found = convert.linen.load(linen_variables, linen.BatchNorm())
    tools.same(found.stats.mean, linen_variables["batch_stats"]["batch"]["mean"])


def test_cells_of_other_classes_are_not_taken_for_lstms(rng):
    """A minimal gated unit has forget gates and candidates as an LSTM has."""
    cell = linen.MGUCell(HIDDEN)
    params = random_like(cell.init(jax.random.key(0), jnp.zeros((1, HIDDEN)), jnp.zeros((1, WIDTH))), rng)["params"]
    assert convert.linen.load_model({"mgu": params}).specs == {}
    lstm = jn.lstm(HIDDEN)
    own = convert.linen.export(lstm, tools.random_params(lstm, rng))["params"]
    found = convert.linen.load({"mgu": params, "net": {"lstm": own}})
    assert found.spec == lstm
    with pytest.raises(ValueError, match=r"load_model: net/lstm/ho/kernel, net/lstm/ho/bias are missing"):
        convert.linen.load_model({"net": {"lstm": {name: own[name] for name in own if name != "ho"}}})


def test_simple_cells_need_their_function(rng):
    module = linen.RNN(linen.SimpleCell(HIDDEN))
    params = random_like(module.init(jax.random.key(0), jnp.zeros((1, 2, WIDTH))), rng)["params"]
    bare = convert.linen.load_model({"net": params})
    assert set(bare["net/cell"]) == {"h/kernel", "i/kernel", "i/bias"}
    assert "net/cell: the names of arrays do not tell the nonlinearity" in bare.notes[0]
    model = convert.linen.load_model({"net": params}, {"net/cell": jn.Elman(HIDDEN)})
    xs = tools.random_inputs(rng)
    got = jn.unroll(model["net/cell"].spec, model["net/cell"].params, jnp.asarray(xs)).outputs
    with tools.its_own_rules():
        expected = module.apply({"params": params}, xs, time_major=True)
    tools.agree(got, expected, 1e-5)
    with pytest.raises(ValueError, match=r"specs has nett, and there are the layers net/cell"):
        convert.linen.load_model({"net": params}, {"nett": jn.Elman(HIDDEN)})


class Net(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        self.rnn = nnx.RNN(nnx.LSTMCell(WIDTH, HIDDEN, rngs=rngs), rngs=rngs)
        self.blocks = nnx.List([nnx.LayerNorm(HIDDEN, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)])
        self.more = nnx.Dict({"gru": nnx.RNN(nnx.GRUCell(HIDDEN, HIDDEN, rngs=rngs), rngs=rngs)})
        self.top = nnx.Sequential(nnx.BatchNorm(HIDDEN, use_running_average=True, rngs=rngs), jnp.tanh)
        self.head = nnx.Linear(HIDDEN, TOKENS, rngs=rngs)
        self.gain = nnx.Param(jnp.ones(3))

    def __call__(self, tokens):
        x = self.more["gru"](self.blocks[0](self.rnn(self.embed(tokens))))
        return self.head(self.top(x))


@pytest.fixture
def net(rng):
    module = Net(nnx.Rngs(0))
    nnx.update(module, random_like(nnx.state(module, nnx.Param), rng))
    nnx.update(module, positive(nnx.state(module, nnx.BatchStat)))
    return module


def test_modules_and_states_of_nnx(rng, net):
    tokens = rng.integers(TOKENS, size=(2, 5))
    model = convert.nnx.load(net)
    batch, cells = "top/layers/0", ("rnn", "more/gru", "blocks/0")
    linear = model["head"]
    x = jn.unroll(model["rnn"].spec, model["rnn"].params, model["embed"]["embedding"][tokens], time_axis=1).outputs
    x, _ = model["blocks/0"].spec(model["blocks/0"].params, x)
    x = jn.unroll(model["more/gru"].spec, model["more/gru"].params, x, time_axis=1).outputs
    x, _ = model[batch].spec(model[batch].params, x, model[batch].stats)
    with tools.its_own_rules():
        expected = net(tokens)
    tools.agree(head_of(linear, jnp.tanh(x)), expected, 1e-5)
    assert set(model) == {"", "embed", *cells, batch, "head"}
    assert model[""]["gain"].shape == (3,)
    assert model.kinds["blocks/1"] == "Dropout"
    assert any(note.startswith("rnn: time_major=False") for note in model.notes)
    specs = {"blocks/0": jn.LayerNorm(epsilon=1e-6), batch: jn.BatchNorm(epsilon=1e-5)}
    for state in (nnx.state(net), nnx.to_pure_dict(nnx.state(net, (nnx.Param, nnx.BatchStat)))):
        again = convert.nnx.load_model(state, specs)
        tools.same(again["rnn/cell"].params, model["rnn"].params)
        tools.same(again["more/gru/cell"].params, model["more/gru"].params)
        tools.same(again[batch][1:3], model[batch][1:3])
        tools.same(again["head"], linear)
        assert again["blocks/0"].spec == model["blocks/0"].spec
    with pytest.raises(ValueError, match=r"'more/gru/cell/' \(a GRU\), 'rnn/cell/' \(an LSTM\)\. Pass the part"):
        convert.nnx.load(nnx.state(net))
    del net.more["gru"]
    tools.same(convert.nnx.load(nnx.state(net)).params, model["rnn"].params)


def test_modules_of_nnx_without_counterpart_keep_their_arrays(rng):
    rngs = nnx.Rngs(0)
    module = nnx.Dict({"odd": nnx.GRUCell(2, 3, gate_fn=jax.nn.relu, rngs=rngs), "head": nnx.Linear(3, 2, rngs=rngs)})
    module["tied"] = module["head"]
    model = convert.nnx.load(module)
    assert set(model["odd"]) == {"dense_i/kernel", "dense_i/bias", "dense_h/kernel"}
    assert model.notes[0].startswith("odd: GRUCell with another gate_fn cannot be represented")
    assert model.tied == {"tied/kernel": "head/kernel", "tied/bias": "head/bias"}


def test_modules_of_equinox(rng):
    eqx = tools.peer("equinox")
    keys = jax.random.split(jax.random.key(0), 3)

    class Model(eqx.Module):
        cell: eqx.nn.GRUCell
        layers: list
        extra: dict
        function: callable = eqx.field(static=True)

    mean = eqx.nn.BatchNorm(HIDDEN, "batch", mode="batch", momentum=0.5)
    layers = [eqx.nn.LayerNorm(HIDDEN), eqx.nn.Linear(HIDDEN, 2, key=keys[0]), eqx.nn.Dropout(0.1)]
    module = Model(eqx.nn.GRUCell(WIDTH, HIDDEN, key=keys[1]), layers, {"b": jnp.ones(3)}, jnp.tanh)
    module = jax.tree.map(lambda leaf: random_like(leaf, rng) if eqx.is_array(leaf) else leaf, module)
    model = convert.equinox.load(module)
    x, h = rng.standard_normal(WIDTH).astype("f"), rng.standard_normal(HIDDEN).astype("f")
    with tools.its_own_rules():
        expected = layers_of_equinox(module, x, h)
    carry = model["cell"].spec.initial_carry(())._replace(h=jnp.asarray(h))
    y = jn.unroll(model["cell"].spec, model["cell"].params, jnp.asarray(x)[None], carry=carry).outputs[0]
    y, _ = model["layers/0"].spec(model["layers/0"].params, y)
    tools.agree(model["layers/1"]["weight"] @ y + model["layers/1"]["bias"], expected, 1e-5)
    assert set(model) == {"", "cell", "layers/0", "layers/1"}
    assert list(model[""]) == ["extra/b"]
    assert model.kinds["layers/2"] == "Dropout"
    with pytest.raises(ValueError, match=r"load: layers/0: the running statistics of a BatchNorm are in a State"):
        convert.equinox.load(Model(module.cell, [mean], {}, jnp.tanh))


def layers_of_equinox(module, x, h):
    y = module.cell(jnp.asarray(x), jnp.asarray(h))
    return module.layers[1](module.layers[0](y))


def test_parameters_of_haiku(rng):
    hk = tools.peer("haiku")

    class Net(hk.Module):
        def __call__(self, tokens, train):
            x = hk.Embed(TOKENS, WIDTH)(tokens)
            core = hk.LSTM(HIDDEN)
            x, _ = hk.dynamic_unroll(core, x, core.initial_state(2))
            x = hk.LayerNorm(-1, True, True)(x)
            core = hk.GRU(HIDDEN, name="upper")
            x, _ = hk.dynamic_unroll(core, x, core.initial_state(2))
            x = hk.BatchNorm(True, True, 0.9)(x, is_training=train)
            return hk.nets.MLP([3, 2])(x)

    net = hk.without_apply_rng(hk.transform_with_state(lambda tokens, train=False: Net()(tokens, train)))
    tokens = rng.integers(TOKENS, size=(5, 2))
    with tools.its_own_rules():
        params, state = net.init(jax.random.key(0), tokens, True)
        params, state = random_like(params, rng), positive(state)
        expected, _ = net.apply(params, state, tokens)
    specs = {"net/layer_norm": jn.LayerNorm(), "net/batch_norm": jn.BatchNorm()}
    model = convert.haiku.load_model(params, specs, state=state)
    x = model["net/embed"]["embeddings"][tokens]
    for name in ("net/lstm", "net/layer_norm", "net/upper", "net/batch_norm"):
        layer = model[name]
        if name in specs:
            x, _ = layer.spec(layer.params, x, *([layer.stats] if layer.stats else []))
        else:
            x = jn.unroll(layer.spec, layer.params, x).outputs
    x = jax.nn.relu(head_of(model["net/mlp/~/linear_0"], x, "w", "b"))
    tools.agree(head_of(model["net/mlp/~/linear_1"], x, "w", "b"), expected, 1e-5)
    bare = convert.haiku.load_model(params, state=state)
    assert set(bare.specs) == {"net/lstm", "net/upper"}
    assert set(bare["net/batch_norm/~/mean_ema"]) == {"hidden", "average", "counter"}
    with pytest.raises(ValueError, match=r"there are net/lstm, net/upper\. Pass name="):
        convert.haiku.load(params)
    only = {name: arrays for name, arrays in params.items() if name != "net/upper"}
    tools.same(convert.haiku.load(only).params, model["net/lstm"].params)


def test_arrays_keep_their_values(linen_variables):
    model = convert.linen.load_model(linen_variables)
    np.testing.assert_array_equal(model["head"]["kernel"], linen_variables["params"]["head"]["kernel"])
