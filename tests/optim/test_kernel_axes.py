"""Where the inputs of a unit lie: in the layers of Flax, in linen and NNX, and in cells.

The lengths are those of a loop in NumPy at float64, over units that each test names by hand.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm import optim
from tests import cases
from tests.optim.unit_vectors import close, normalized, project, unit_vectors
from tests.tools.peers import lenient

INPUTS = 5
SEQUENCE, IMAGE, VOLUME = (2, 7, INPUTS), (2, 6, 7, INPUTS), (1, 4, 5, 3, INPUTS)

# By layer: linen, NNX, the shape of the input, and by the end of the name of a kernel the axes of the inputs.
LAYERS = {
    "dense": (lambda: nn.Dense(4), lambda r: nnx.Linear(INPUTS, 4, rngs=r), SEQUENCE, {"kernel": (0,)}),
    "convolution": (
        lambda: nn.Conv(4, (3,)),
        lambda r: nnx.Conv(INPUTS, 4, (3,), rngs=r),
        SEQUENCE,
        {"kernel": (0, 1)},
    ),
    "convolution without bias, square": (
        lambda: nn.Conv(INPUTS, (INPUTS,), use_bias=False),
        lambda r: nnx.Conv(INPUTS, INPUTS, (INPUTS,), use_bias=False, rngs=r),
        SEQUENCE,
        {"kernel": (0, 1)},
    ),
    "image": (
        lambda: nn.Conv(4, (3, 2), use_bias=False),
        lambda r: nnx.Conv(INPUTS, 4, (3, 2), use_bias=False, rngs=r),
        IMAGE,
        {"kernel": (0, 1, 2)},
    ),
    "volume": (
        lambda: nn.Conv(4, (3, 2, 2)),
        lambda r: nnx.Conv(INPUTS, 4, (3, 2, 2), rngs=r),
        VOLUME,
        {"kernel": (0, 1, 2, 3)},
    ),
    "transposed": (
        lambda: nn.ConvTranspose(4, (3,), use_bias=False),
        lambda r: nnx.ConvTranspose(INPUTS, 4, (3,), use_bias=False, rngs=r),
        SEQUENCE,
        {"kernel": (0, 1)},
    ),
    "transposed, with its kernel transposed": (
        lambda: nn.ConvTranspose(4, (3, 2), transpose_kernel=True),
        lambda r: nnx.ConvTranspose(INPUTS, 4, (3, 2), transpose_kernel=True, rngs=r),
        IMAGE,
        {"kernel": (0, 1, 3)},
    ),
    "heads apart": (
        lambda: nn.DenseGeneral((2, 3), use_bias=False),
        lambda r: nnx.LinearGeneral(INPUTS, (2, 3), use_bias=False, rngs=r),
        SEQUENCE,
        {"kernel": (0,)},
    ),
    "two axes to two": (
        lambda: nn.DenseGeneral((2, 3), axis=(-2, -1), use_bias=False),
        lambda r: nnx.LinearGeneral((7, INPUTS), (2, 3), axis=(-2, -1), use_bias=False, rngs=r),
        SEQUENCE,
        {"kernel": (0, 1)},
    ),
    "einsum": (
        lambda: nn.Einsum((4, INPUTS), "bti,oi->bto", use_bias=False),
        lambda r: nnx.Einsum("bti,oi->bto", (4, INPUTS), rngs=r),
        SEQUENCE,
        {"kernel": (1,)},
    ),
    "attention": (
        lambda: nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8, use_bias=False),
        lambda r: nnx.MultiHeadAttention(2, INPUTS, 8, use_bias=False, decode=False, rngs=r),
        SEQUENCE,
        {"query_kernel": (0,), "key_kernel": (0,), "value_kernel": (0,), "out_kernel": (0, 1)},
    ),
    "a cell": (
        lambda: jl.RNN(jn.ln_lstm(INPUTS)),
        lambda r: jx.RNN(jn.ln_lstm(INPUTS), INPUTS, rngs=r),
        SEQUENCE,
        {"kernel": (0,), "recurrent": (0,)},
    ),
    "a cell with heads": (
        lambda: jl.RNN(jn.zoo.SLSTM(4, heads=2)),
        lambda r: jx.RNN(jn.zoo.SLSTM(4, heads=2), INPUTS, rngs=r),
        SEQUENCE,
        {"kernel": (0,), "recurrent": (1,)},
    ),
    "a cell of layers": (
        lambda: jl.RNN(jn.zoo.RecurrentHighway(4, depth=3)),
        lambda r: jx.RNN(jn.zoo.RecurrentHighway(4, depth=3), INPUTS, rngs=r),
        SEQUENCE,
        {"kernel": (0,), "recurrent": (1,)},
    ),
    "a cell in a driver of Flax": (
        lambda: nn.RNN(jl.RNNCell(jn.gru(4))),
        lambda r: nnx.RNN(jx.RNNCell(jn.gru(4), INPUTS, rngs=r)),
        SEQUENCE,
        {"kernel": (0,), "recurrent": (0,)},
    ),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


# ---- one layer


@every_layer
def test_linen(name, rng, key):
    make, _, shape, axes = LAYERS[name]
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    plain, wrapped = make(), jl.Reparametrized(make(), jn.weight_norms.UnitNorm())
    with lenient():
        variables = cases.randomize(wrapped.init(key, x), rng)
        params = variables["params"]
        want = plain.apply({"params": normalized(params["module"], axes)}, x)
        close(jax.jit(wrapped.apply)(variables, x), want)
        loss = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(wrapped.apply({"params": params}, x)))))
        gradient = loss(params)["module"]
        # The gradient of each unit is orthogonal to its weights, and is not zero.
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            found = [a for end, a in axes.items() if "_".join(str(p.key) for p in path).endswith(end)]
            if found:
                weights = params["module"]
                for entry in path:
                    weights = weights[entry.key]
                assert np.abs(leaf).max() > 1e-4
                assert np.abs((np.asarray(leaf, np.float64) * np.asarray(weights)).sum(found[0])).max() < 1e-4
        found = jl.kernel_axes(make(), key, x)
    for end, inputs in axes.items():
        (axis,) = (axis for name, axis in found.items() if name.endswith(end))
        assert np.ravel(axis).tolist() == list(inputs)


@every_layer
def test_nnx(name, rng):
    _, make, shape, axes = LAYERS[name]
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    plain = make(nnx.Rngs(0))
    nnx.update(plain, cases.randomize(nnx.state(plain, nnx.Param), rng))
    wrapped = jx.Reparametrized(plain, jn.weight_norms.UnitNorm())
    with lenient():
        got = nnx.jit(lambda module, x: module(x))(wrapped, x)
        gradient = nnx.to_pure_dict(nnx.grad(lambda module: jnp.sum(jnp.sin(module(x))))(wrapped))
        state = nnx.state(plain, nnx.Param)
        pure = nnx.to_pure_dict(state)
        nnx.replace_by_pure_dict(state, normalized(pure, axes))
        nnx.update(plain, state)
        close(got, plain(x))
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["module"]))
    found = jx.kernel_axes(make(nnx.Rngs(0)))
    for end, inputs in axes.items():
        (axis,) = (axis for name, axis in found.items() if name.endswith(end))
        assert np.ravel(axis).tolist() == list(inputs)


def test_rows_of_an_embedding(rng, key):
    tokens = jnp.asarray([[0, 3, 1]])
    wrapped = jl.Reparametrized(nn.Embed(6, 4), {"embedding": jn.weight_norms.UnitNorm()})
    close(jnp.linalg.norm(wrapped.init_with_output(key, tokens)[0], axis=-1), np.ones((1, 3)))
    wrapped = jx.Reparametrized(nnx.Embed(6, 4, rngs=nnx.Rngs(0)), {"embedding": jn.WeightNorm()})
    assert wrapped.scale.embedding.shape == (6,)
    params = {"embed": {"embedding": jnp.asarray(rng.standard_normal((6, 4)), jnp.float32)}}
    made = project(params, mask=optim.named("embedding"))
    close(made["embed"]["embedding"], unit_vectors(params["embed"]["embedding"], (1,)))


@pytest.mark.parametrize(
    "spec",
    [
        jn.WeightNorm(),
        jn.weight_norms.BoundedWeightNorm(),
        jn.weight_norms.BoundedWeightNorm("gain_bounded"),
        jn.weight_norms.CenteredWeightNorm(learn_scale=True),
        jn.WeightStandardization(),
        jn.SpectralNorm(),
    ],
    ids=repr,
)
def test_every_weight_normalizer_follows_the_layers(spec, rng, key):
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)
    told = type(spec)(**{**vars(spec), "axis": (0, 1)})
    for module in (nn.Conv(4, (3,)), nn.Sequential([nn.Conv(4, (3,), use_bias=False)])):
        with lenient():
            outputs = [jl.Reparametrized(module, s).init_with_output(key, x) for s in (spec, told)]
        chex.assert_trees_all_equal(*outputs)
    with lenient():
        layers = [
            jx.Reparametrized(nnx.Conv(INPUTS, 4, (3,), rngs=nnx.Rngs(0)), s, rngs=nnx.Rngs(1)) for s in (spec, told)
        ]
        chex.assert_trees_all_equal(*(nnx.to_pure_dict(nnx.state(layer)) for layer in layers))
        np.testing.assert_array_equal(*(layer(x) for layer in layers))


# ---- layers of others, stacked layers, cells


class Own(nn.Module):
    """A layer of a user, whose kernel is laid out as nobody knows."""

    @nn.compact
    def __call__(self, x):
        return jnp.einsum("btk,kij->btij", x, self.param("kernel", nn.initializers.normal(), (INPUTS, 3, 4)))


class OwnNNX(nnx.Module):
    def __init__(self):
        self.kernel = nnx.Param(jnp.ones((INPUTS, 3, 4)))


def test_layers_of_others_are_refused_or_told(rng, key):
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)
    message = r"Reparametrized: kernel has shape \(5, 3, 4\), and three axes do not say .*axis=\{'kernel': \(0, 1\)\}"
    with pytest.raises(ValueError, match=message):
        jl.Reparametrized(Own(), jn.WeightNorm()).init(key, x)
    with pytest.raises(ValueError, match=message):
        jx.Reparametrized(OwnNNX(), jn.WeightNorm())
    for axis in (0, {"kernel": 0}, lambda path, array: 0):
        scale = jl.Reparametrized(Own(), jn.WeightNorm(), axis=axis).init(key, x)["params"]["scale"]["kernel"]
        assert scale.shape == jx.Reparametrized(OwnNNX(), jn.WeightNorm(), axis=axis).scale.kernel.shape == (3, 4)


def test_stacked_layers_are_those_of_the_bias_or_refused(rng, key):
    """A kernel of many layers has an axis more than its layer knows of."""
    x = jnp.asarray(rng.standard_normal(SEQUENCE), jnp.float32)

    def stacked(layer):
        return nn.vmap(layer, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=3)

    with lenient():
        spec = jn.WeightNorm()
        wrapped = jl.Reparametrized(stacked(nn.Dense)(4), spec)
        assert wrapped.init(key, x)["params"]["scale"]["kernel"].shape == (3, 4)
        assert jl.kernel_axes(stacked(nn.Dense)(4), key, x) == {}
        with pytest.raises(ValueError, match=r"Reparametrized: kernel has shape \(3, 5, 4\), and three axes"):
            jl.Reparametrized(stacked(nn.Dense)(4, use_bias=False), spec).init(key, x)
        create = nnx.vmap(lambda key: nnx.Linear(INPUTS, 4, rngs=nnx.Rngs(key)))
        layers = create(jax.random.split(key, 3))
    assert jx.kernel_axes(layers) == {}
    assert jx.Reparametrized(layers, spec).scale.kernel.shape == (3, 4)


def test_cells_know_their_own_layout(key):
    for cell, shapes in (
        (jn.lstm(4), {"kernel": (16,), "recurrent": (16,)}),
        (jn.zoo.SLSTM(4, heads=2), {"kernel": (16,), "recurrent": (16,)}),
        (jn.zoo.RecurrentHighway(4, depth=3), {"kernel": (8,), "recurrent": (24,)}),
        (jn.Zoneout(jn.gru(4), rate=0.1), {"kernel": (12,), "recurrent": (12,)}),
    ):
        params = jn.Reparametrized(cell, jn.WeightNorm()).init(key, in_features=5)
        assert {name: scale.shape for name, scale in params.scale.items()} == shapes
    named = {"block": jn.WeightNorm(), "gates": jn.WeightNorm(), "mix": jn.WeightNorm()}
    params = jn.Reparametrized(jn.zoo.BlockGRU(4, blocks=2), named).init(key, in_features=5)
    assert [params.scale[name].shape for name in named] == [(4,), (12,), (4,)]
    message = r"Reparametrized.init: IndRNN does not say over which axes of 'recurrent', which has shape \(4,\), the in"
    with pytest.raises(ValueError, match=message):
        jn.Reparametrized(jn.zoo.IndRNN(4), jn.WeightNorm()).init(key, in_features=5)
    assert jn.Reparametrized(jn.zoo.IndRNN(4), {"kernel": jn.WeightNorm()}).init(key, in_features=5).scale
