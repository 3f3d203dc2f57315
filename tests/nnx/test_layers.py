"""Layers and directions in one NNX ``RNN``: what linen's computes, and what NNX does with its variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests import cases
from tests.flax.flax_tools import close, nnx_parts, nnx_stats, nnx_with
from tests.tools.annotations import no_annotation_checks

pytestmark = pytest.mark.long

LENGTHS = jnp.array([4, 2])
CELLS = (jn.lstm(4), jn.Directions(jn.bn_lstm(2, max_steps=3), jn.gru(3)), jn.elman(4))


def random_like(tree, rng):
    """The same tree with random numbers; positive, as variances have to be."""
    return jax.tree.map(lambda a: jnp.asarray(rng.uniform(0.1, 1.0, a.shape), a.dtype), tree)


def test_it_computes_what_linen_does(rng, key):
    xs = cases.random_inputs(rng, 4, (2,)).swapaxes(0, 1)
    linen, parts = jl.RNN(CELLS), nnx_parts(lambda: jx.RNN(CELLS, 3, rngs=nnx.Rngs(0)))
    shapes = jax.eval_shape(lambda: linen.init(key, xs, use_running_average=True))
    params, stats = random_like(shapes["params"], rng), random_like(shapes["batch_stats"], rng)
    call = {"seq_lengths": LENGTHS, "return_carry": True}

    @jax.jit
    def both(xs):
        module = nnx_with(parts, params, stats)
        variables = {"params": params, "batch_stats": stats}
        theirs = linen.apply(variables, xs, use_running_average=False, mutable=["batch_stats"], **call)
        ours = module(xs, **call), nnx_stats(module)
        module.eval()
        again = {"initial_carry": ours[0][0], "return_carry": False}
        variables["batch_stats"] = theirs[1]["batch_stats"]
        evaluated = linen.apply(variables, xs, use_running_average=True, **again)
        return ours, (theirs[0], theirs[1]["batch_stats"]), module(xs, **again), evaluated

    ours, theirs, evaluated, expected = both(xs)
    close(ours, theirs)
    close(evaluated, expected)


def test_names_split_merge_and_jit():
    rnn = jx.RNN(CELLS, 3, rngs=nnx.Rngs(0))
    assert rnn.layers_0.kernel.shape == (3, 4, 4)
    assert rnn.layers_1.forward.norm.input.mean.shape == (3, 8)
    assert rnn.layers_1.backward.recurrent.shape == (3, 3, 3)
    assert rnn.layers_2.kernel.shape == (5, 4)
    xs = jnp.ones((2, 5, 3))
    merged = nnx.merge(*nnx.split(rnn))

    @nnx.jit
    def run(module):
        return module(xs)

    before = np.asarray(rnn.layers_1.forward.norm.input.mean[...])
    ys = run(rnn)
    assert float(jnp.abs(rnn.layers_1.forward.norm.input.mean[...] - before).max()) > 1e-3
    close(ys, run(merged))
    close(nnx_stats(rnn), nnx_stats(merged))
    directions = jx.RNN(jn.Directions(jn.lstm(4), jn.lstm(4)), 3, merge_fn=jnp.add, rngs=nnx.Rngs(0))
    assert directions(xs).shape == (2, 5, 4)
    assert directions.backward.kernel.shape == (3, 4, 4)
    skips = jx.RNN((jn.lstm(4), jn.lstm(4)), 3, stack=jn.skip_stack, rngs=nnx.Rngs(0))
    assert nnx.merge(*nnx.split(skips))(xs).shape == (2, 5, 8)
    assert skips.layers_1.kernel.shape == (7, 4, 4)
    assert jx.to_params(skips)[0][1].kernel.shape == (7, 4, 4)
    axes = jx.kernel_axes(directions)
    assert axes == {f"{way}_{name}": 0 for way in ("forward", "backward") for name in ("kernel", "recurrent")}


def test_it_is_flax_bidirectional(rng):
    """The same weights in Flax's own pair of modules, around ours."""
    cells = jn.Directions(jn.ln_lstm(4), jn.ln_gru(4))
    ours = jx.RNN(cells, 3, return_carry=True, rngs=nnx.Rngs(0))
    pair = nnx.Bidirectional(*(jx.RNN(cell, 3, rngs=nnx.Rngs(0)) for cell in cells), return_carry=True)
    for module, name in ((pair.forward_rnn, "forward"), (pair.backward_rnn, "backward")):
        weights = nnx.to_pure_dict(nnx.state(getattr(ours, name), nnx.Param))
        nnx.replace_by_pure_dict(state := nnx.state(module, nnx.Param), weights)
        nnx.update(module, state)
    xs = cases.random_inputs(rng, 4, (2,)).swapaxes(0, 1)
    call = {"seq_lengths": LENGTHS}
    close(jax.tree.leaves(ours(xs, **call)), jax.tree.leaves(pair(xs, **call)))


def test_masks_of_each_layer_and_metadata():
    dropped = jn.VariationalDropout(jn.lstm(4), input_rate=0.5)
    rnn = jx.RNN(jn.Directions(dropped, dropped), 64, rngs=jax.random.key(0))  # a key is no stream to keep
    rnn.backward.kernel[...], rnn.backward.recurrent[...] = rnn.forward.kernel[...], rnn.forward.recurrent[...]
    xs = jnp.ones((1, 1, 64))
    with pytest.raises(ValueError, match="RNN: VariationalDropout draws masks and needs randomness"):
        rnn(xs)
    one, other = jnp.split(rnn(xs, rngs=nnx.Rngs(dropout=1))[0, 0], 2)
    assert float(jnp.abs(one - other).max()) > 1e-3
    rnn.eval()
    one, other = jnp.split(rnn(xs)[0, 0], 2)
    close(one, other)
    noted = nnx.eval_shape(
        lambda: jx.RNN((jn.lstm(4), jn.lstm(4)), 3, rngs=nnx.Rngs(0), layers_1_kernel_metadata={"note": "second"})
    )
    assert noted.layers_1.kernel.get_metadata("note") == "second"
    assert "note" not in noted.layers_0.kernel.get_metadata()
    with pytest.raises(ValueError, match="RNN: out_sharding spreads layers_1_bias"):
        jx.RNN((jn.lstm(4),) * 2, 3, rngs=nnx.Rngs(0), layers_1_bias_metadata={"out_sharding": ("model",)})


def test_population_statistics_of_layers(rng):
    norm = jn.BatchNorm(momentum=0.0, scale_init=0.1)
    rnn = jx.RNN((jn.LSTM(2, norm=norm, max_steps=3), jn.GRU(2, norm=norm)), 3, rngs=nnx.Rngs(0))
    batches = [cases.random_inputs(rng, 3, (4,)).swapaxes(0, 1) for _ in range(2)]
    means = []
    for xs in batches:
        rnn(xs)
        means.append([layer.norm.input.mean[...] for layer in (rnn.layers_0, rnn.layers_1)])
    jx.population(rnn, batches, ddof=0)
    for layer, first, second in zip((rnn.layers_0, rnn.layers_1), *means, strict=True):
        np.testing.assert_allclose(layer.norm.input.mean[...], (first + second) / 2, rtol=1e-4, atol=1e-6)


def test_messages():
    with no_annotation_checks(), pytest.raises(TypeError, match=r"RNN: cell\[1\] must be a cell spec"):
        jx.RNN((jn.lstm(4), jn.lstm), 3, rngs=nnx.Rngs(0))
    rnn, z = jx.RNN((jn.lstm(4), jn.lstm(4)), 3, rngs=nnx.Rngs(0)), jnp.zeros((2, 4))
    with pytest.raises(TypeError, match="RNN: initial_carry must be a list or tuple with one entry for each of the 2"):
        rnn(jnp.ones((2, 5, 3)), initial_carry=jn.LSTMCarry(z, z))
