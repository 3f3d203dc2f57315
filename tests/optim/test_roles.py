"""Every weight of the table is a kernel or none: of cells, normalizers, weight normalizers; as JAX and Flax have it."""

import jax
import jax.numpy as jnp
import optax
import pytest

import jaxnorm as jn
from jaxnorm import optim
from jaxnorm._base.paths import paths
from jaxnorm._shared.names import to_names
from tests import cases

NORMS_WITH_KERNELS = {"ada_layer_norm", "ada_layer_norm_gate", "cosine_norm"}


def shapes_of(cell, in_features=cases.IN_FEATURES):
    return jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))


def by_name(tree):
    """Answers by name: a tuple is one, and so is None."""
    found = paths(tree, is_leaf=lambda node: node is None or (isinstance(node, tuple) and is_answer(node)))
    return {"/".join(path): leaf for path, leaf in found if leaf is not None}


def is_answer(node):
    return hasattr(node, "reduction_axis") or (type(node) is tuple and node != () and all(type(a) is int for a in node))


def stacked(params, layers=5):
    """The weights of several layers, on a first axis."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((layers, *leaf.shape), leaf.dtype), params)


def check(params, expected, layers=0):
    """Whether the answers for a tree are the expected ones, with other axes before them."""
    mask, axes, dimensions = by_name(optim.decay_mask(params)), *map(by_name, answers(params))
    assert {name for name, decays in mask.items() if decays} == set(expected)
    for name, leaf in paths(params):
        name = "/".join(name)
        if name in expected:
            inputs, outputs = (axis + layers for axis in expected[name])
            assert axes[name] == (inputs,)
            assert dimensions[name] == ((inputs,), (outputs,))
        else:
            assert axes.get(name, ()) == tuple(range(leaf.ndim))
            assert name not in dimensions


def answers(params):
    return optim.unit_axes(params), optim.muon_dimensions(params)


@pytest.mark.parametrize("case", cases.CELLS, ids=str)
def test_weights_of_cells(case):
    expected, params = case.kernels, shapes_of(case.cell)
    assert set(expected) <= {"/".join(path) for path, _ in paths(params)}
    for tree in (params, to_names(params)):  # linen and NNX have the names of the latter
        check(tree, expected)
        check(stacked(tree), expected, layers=1)


@pytest.mark.parametrize("case", [*cases.NORMS, *cases.BATCH_NORMS], ids=str)
def test_weights_of_normalizers(case):
    params = case.spec.init(case.spec.param_shape(case.shape))
    mask = by_name(optim.decay_mask(params)) if case.name != "identity" else {}
    assert [name for name, decays in mask.items() if decays] == ["kernel"] * (case.name in NORMS_WITH_KERNELS)
    axes, dimensions = answers(params)
    assert set(by_name(dimensions)) == {name for name, decays in mask.items() if decays}
    if "kernel" in mask:
        assert by_name(axes)["kernel"] == (0,)


def test_kernels_of_normalizers(key):
    params = jn.zoo.CosineNorm(4, use_scale=True).init(key, 3)
    assert by_name(optim.decay_mask(params)) == {"kernel": True, "scale": False}
    assert by_name(optim.muon_dimensions(params)) == {"kernel": ((0,), (1,))}
    params = jn.zoo.Highway().init(key, 4)
    check(params, {"kernel": (0, 2)})


@pytest.mark.parametrize("case", cases.WEIGHTS, ids=str)
def test_weights_of_weight_normalizers(case, key, rng):
    params, _ = case.spec.init(jnp.asarray(rng.standard_normal((3, 4)), jnp.float32), key)
    mask = by_name(optim.decay_mask(params))
    assert mask == {"kernel": True, "scale": False} if params.scale is not None else {"kernel": True}


WRAPPED = (
    jn.Reparametrized(jn.ln_lstm(4), jn.WeightNorm()),
    jn.Reparametrized(jn.lstm(4), jn.weight_norms.BoundedWeightNorm("gain_bounded")),
    jn.zoo.bounded_weight_norm_lstm(4),
    jn.Reparametrized(
        jn.Zoneout(jn.gru(4), rate=0.1), {"recurrent": jn.weight_norms.CenteredWeightNorm(learn_scale=True)}
    ),
    jn.Zoneout(jn.zoo.weight_norm_lstm(4), rate=0.1),
)


@pytest.mark.parametrize("cell", WRAPPED, ids=lambda cell: repr(cell)[:60])
def test_wrapped_cells(cell):
    params = shapes_of(cell)
    for tree in (params, to_names(params)):
        check(tree, {"cell/kernel": (0, 2), "cell/recurrent": (0, 2)})


def test_stacks_and_directions(key):
    cells = (jn.ln_lstm(4), jn.zoo.SLSTM(4, heads=2))
    params = [shapes_of(cells[0]), jn.Directions(*map(shapes_of, cells))]
    check(
        params,
        {
            "0/kernel": (0, 2),
            "0/recurrent": (0, 2),
            "1/forward/kernel": (0, 2),
            "1/forward/recurrent": (0, 2),
            "1/backward/kernel": (0, 2),
            "1/backward/recurrent": (1, 3),
        },
    )


@pytest.mark.parametrize(
    "cell",
    [jn.zoo.MinGRU(3, use_bias=False), jn.zoo.MinLSTM(3, use_bias=False), jn.zoo.MUT2(3), jn.zoo.MUT1(3), jn.Elman(3)],
    ids=lambda cell: type(cell).__name__,
)
def test_cells_that_say_little_of_their_layout(cell):
    params = shapes_of(cell)
    ndim = params.kernel.ndim
    expected = {name: (0, ndim - 1) for name in ("kernel", "recurrent") if hasattr(params, name)}
    check(params, expected)
    check(stacked(params), expected, layers=1)
    norm = shapes_of(type(cell)(5, norm=jn.LayerNorm()), 5)
    check(to_names(norm), expected)


def test_one_layer_or_several_where_sizes_agree():
    """An Elman cell of three layers is not taken for gates, nor gates for layers."""
    kernel = jax.ShapeDtypeStruct((3, 4, 4), jnp.float32)
    layers = {"kernel": kernel, "recurrent": kernel}
    assert optim.unit_axes(layers) == {"kernel": (1,), "recurrent": (1,)}
    gates = {"kernel": kernel, "recurrent": jax.ShapeDtypeStruct((4, 4, 4), jnp.float32)}
    assert optim.unit_axes(gates) == {"kernel": (0,), "recurrent": (0,)}


# ---- names that mean more than one thing


def test_a_layer_with_the_name_scale_is_a_layer(rng):
    """Modulation by layers named scale and shift is common; what lies under scale is not always a gain."""

    def dense(*shape):
        return {"kernel": jnp.ones(shape)}

    model = {"film": {"scale": dense(3, 4), "shift": dense(3, 4)}, "alone": {"scale": dense(3, 4)}, "in": dense(5, 4)}
    assert all(by_name(optim.decay_mask(model)).values())
    assert all(by_name(optim.kernels(model)).values())
    cell = {"kernel": jnp.ones((3, 4)), "recurrent": jnp.ones((4, 4))}
    assert all(by_name(optim.decay_mask({"scale": cell, "state": cell, "carry": cell})).values())


def test_names_of_several_words():
    vector, matrix = jnp.ones(3), jnp.ones((3, 4))
    params = {"pos_embedding": matrix, "query_bias": vector, "log_scale": matrix, "kernel_1": matrix, "bias_12": matrix}
    assert optim.decay_mask(params) == {name: name in ("pos_embedding", "kernel_1") for name in params}
    assert optim.unit_axes(params)["pos_embedding"] == (1,)
    assert optim.muon_dimensions(params)["pos_embedding"] is None


def test_answers_by_name():
    params = {"a": {"kernel": jnp.ones((3, 4)), "tau": jnp.ones(4)}, "embed": {"embedding": jnp.ones((5, 4))}}
    mask = optim.decay_mask(params, decay={"embedding": False, "tau": True})
    assert mask == {"a": {"kernel": True, "tau": True}, "embed": {"embedding": False}}
    axes = optim.unit_axes(params, axis={"tau": None, "embedding": 0, "a_kernel": 1})
    assert axes == {"a": {"kernel": (1,), "tau": None}, "embed": {"embedding": (0,)}}
    assert optim.unit_axes(params, axis={"tau": 0})["a"]["tau"] == (0,)
    dimensions = optim.muon_dimensions(params, axis={"tau": None, "kernel": None})
    assert jax.tree.leaves(dimensions) == []


# ---- what is no tree of weights


@pytest.mark.parametrize("ask", [optim.decay_mask, optim.unit_axes, optim.muon_dimensions])
def test_what_is_refused(ask):
    argument = "decay" if ask is optim.decay_mask else "axis"
    for broken, error, message in (
        (None, ValueError, "params is None. Pass the weights"),
        (jn.ln_lstm(4), TypeError, r"params must be a tree of arrays under their names, got LSTM\. Pass the weights"),
        (jnp.ones(3), TypeError, "must be a tree of arrays under their names, got ArrayImpl"),
        ({"a": {"kernel": "x"}}, TypeError, "must be a tree of arrays under their names, got str at a/kernel"),
        (
            {"layer": {"tau": jnp.ones(3)}},
            ValueError,
            rf"the name of layer/tau does not say whether it is a kernel.* {argument}=\{{'tau': \.\.\.\}}",
        ),
        ({"gates": jnp.ones(3)}, ValueError, "the name of gates does not say whether it is a kernel"),
        ({"norm": {"mean": jnp.ones(3)}}, ValueError, r"norm/mean .* pass variables\['params'\], or nnx.state"),
    ):
        with pytest.raises(error, match=rf"^{ask.__name__}: .*{message}" if "params" not in message else message):
            ask(broken)
    assert ask({}) == {}
    assert ask(()) == ()
    with pytest.raises(TypeError, match=rf"{ask.__name__}: {argument}: there is no variable 'taau' here, only kernel"):
        ask({"kernel": jnp.ones((3, 4))}, **{argument: {"taau": True}})


def test_a_new_weight_has_to_be_classified(key):
    """The contract over the table fails when a cell gets a weight that nobody has thought of."""
    params = to_names(jn.ln_lstm(4).init(key, 3))
    with pytest.raises(ValueError, match="the name of forgetting does not say"):
        optim.decay_mask(params | {"forgetting": jnp.ones(4)})


def test_masked_weights_keep_their_names():
    params = shapes_of(jn.Reparametrized(jn.lstm(4), jn.WeightNorm()))
    hidden = params._replace(cell=params.cell._replace(kernel=optax.MaskedNode()))
    mask = by_name(optim.decay_mask(hidden, decay={"cell_kernel": True}))
    assert mask == {"cell/recurrent": True, "cell/bias": False, "scale/kernel": False, "scale/recurrent": False}
