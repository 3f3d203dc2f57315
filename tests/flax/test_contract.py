"""The contract of the Flax modules: linen, NNX and the core compute the same, for every row of the table."""

import warnings

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._shared.names import to_names
from jaxnorm.engine.arguments.carry_forms import flax_form
from jaxnorm.engine.arguments.lengths import flip_steps
from tests import cases
from tests.cell_cases import IMAGE_CELLS
from tests.flax.flax_tools import LENGTHS, close, nnx_parts, nnx_stats, nnx_with, same

every_norm = pytest.mark.parametrize("case", cases.NORMS, ids=str)
every_cell = pytest.mark.parametrize("case", cases.rows((*cases.CELLS, *IMAGE_CELLS)), ids=str)


def as_dict(variables):
    """Statistics of linen with empty branches left out, like those of NNX."""
    return dict(variables.get("batch_stats", {}))


# ---- linen == nnx == core


@every_norm
def test_norm_modules_equal_the_core(case, rng):
    spec, shape = case.spec, case.spec.param_shape(case.shape)
    params = cases.random_norm_params(case, rng)
    running = cases.random_stats(spec.initial_stats(shape), rng)
    x = jnp.asarray(rng.standard_normal(case.shape), jnp.float32)
    mask = jnp.arange(case.shape[0]).reshape(-1, *[1] * (x.ndim - 1)) != 1
    linen, parts = jl.Norm(spec), nnx_parts(lambda: jx.Norm(spec, shape))

    def core(params, x, running, use):
        y, measured = spec(params, x, running, mask) if use else spec.train(params, x, running, mask)
        return y, to_names(running if use else spec.update_running(running, measured))

    def with_linen(params, x, running, use):
        variables = {"params": to_names(params), "batch_stats": to_names(running)}
        y, updates = linen.apply(variables, x, use, mask=mask, mutable=["batch_stats"])
        return y, as_dict(updates)

    def with_nnx(params, x, running, use):
        module = nnx_with(parts, to_names(params), to_names(running))
        return module(x, use, mask=mask), nnx_stats(module)

    @jax.jit
    def every(params, x):
        def loss(function, use):
            def of(params, x):
                y, stats = function(params, x, running, use)
                return jnp.sum(jnp.sin(y)), (y, stats)

            return jax.value_and_grad(of, argnums=(0, 1), has_aux=True)(params, x)

        return [[loss(function, use) for function in (core, with_linen, with_nnx)] for use in (False, True)]

    for results in every(params, x):
        same(results)


@pytest.mark.long
@every_cell
def test_rnn_modules_equal_the_core(case, rng):
    """Values, carry, gradients and statistics, in training with ragged lengths and with running statistics."""
    cell = case.cell
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 5, (3, *case.image_shape))
    running = cases.random_stats(cell.initial_stats(), rng)
    linen, parts = jl.RNN(cell, return_carry=True), nnx_parts(lambda: jx.RNN(cell, 3, rngs=jax.random.key(0)))

    def core(params, xs, use):
        out = jn.unroll(cell, params, xs, lengths=LENGTHS, stats=running if use else None)
        stats = running if use else cell.update_running(running, out.moments)
        return (flax_form(cell, out.carry), out.outputs.swapaxes(0, 1)), to_names({"norm": stats})

    def with_linen(params, xs, use):
        variables = {"params": to_names(params), "batch_stats": to_names({"norm": running})}
        xs = xs.swapaxes(0, 1)
        result, updates = linen.apply(
            variables, xs, seq_lengths=LENGTHS, use_running_average=use, mutable=["batch_stats"]
        )
        return result, as_dict(updates)

    def with_nnx(params, xs, use):
        module = nnx_with(parts, to_names(params), to_names({"norm": running}))
        xs = xs.swapaxes(0, 1)
        result = module(xs, seq_lengths=LENGTHS, use_running_average=use, return_carry=True)
        return result, nnx_stats(module)

    def of_loss(function, params, xs, use):
        def loss(params, xs):
            result, stats = function(params, xs, use)
            return jnp.sum(jnp.sin(result[1])), (result, stats)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)

    def of_value(function, params, xs, use):
        return function(params, xs, use)

    # A module is a thin shell around the core: gradients of two cells, which take long to compile, stand for all.
    results = of_loss if str(case) in ("ln_lstm", "bn_lstm") else of_value

    @jax.jit
    def every(params, xs):
        uses = (False, True) if case.batch_statistics else (False,)
        return [[results(function, params, xs, use) for function in (core, with_linen, with_nnx)] for use in uses]

    for each in every(params, xs):
        same(each)


@pytest.mark.long
def test_names_of_variables(key):
    cell = jn.bn_lstm(4, max_steps=3)
    linen = jax.eval_shape(lambda key: jl.RNN(cell).init(key, jnp.ones((1, 2, 3)), use_running_average=True), key)
    affine, table = {"scale": (16,)}, {"mean": (3, 16), "var": (3, 16), "count": (3,)}
    cell_table = {"mean": (3, 4), "var": (3, 4), "count": (3,)}
    weights = {
        "kernel": (3, 4, 4),
        "recurrent": (4, 4, 4),
        "bias": (16,),
        "norm": {"input": affine, "recurrent": affine, "cell": {"scale": (4,), "bias": (4,)}},
    }
    stats = {"norm": {"input": table, "recurrent": table, "cell": cell_table}}
    shapes = {"params": weights, "batch_stats": stats}
    assert jax.tree.map(lambda leaf: leaf.shape, linen) == shapes
    module = nnx.eval_shape(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0)))
    for kind, expected in ((nnx.Param, weights), (nnx.BatchStat, stats)):
        assert jax.tree.map(lambda leaf: leaf.shape, nnx.to_pure_dict(nnx.state(module, kind))) == expected
    assert module.norm.input.scale.shape == (16,)
    assert not hasattr(nnx.eval_shape(lambda: jx.RNN(jn.lstm(4, use_bias=False), 3, rngs=nnx.Rngs(0))), "bias")
    assert not [leaf for _, leaf in nnx.iter_graph(module) if isinstance(leaf, (nnx.RngState, nnx.Rngs))]


@pytest.mark.long
def test_initial_weights_are_those_of_the_cell(key):
    """NNX takes the key as it is; linen derives one from it. Initialization moves no statistic."""
    cell, xs = jn.bn_lstm(4, max_steps=3), jnp.ones((1, 2, 3))
    close(to_names(cell.init(key, 3)), nnx.to_pure_dict(nnx.state(jx.RNN(cell, 3, rngs=key), nnx.Param)))
    variables = jax.jit(lambda key: jl.RNN(cell, use_running_average=False).init(key, xs))(key)
    close(to_names({"norm": cell.initial_stats()}), variables["batch_stats"])
    gram = np.einsum("igh,jgh->ij", *[variables["params"]["recurrent"]] * 2)
    np.testing.assert_allclose(gram, np.eye(4), atol=1e-5, err_msg="one orthogonal matrix for all gates")


# ---- NNX transformations, views, metadata


@pytest.mark.long
def test_nnx_module_closed_over_in_transformations(rng):
    """Plain jax.jit, vmap and grad over a closed-over module: it keeps no random state and writes nothing."""
    cell = jn.bn_lstm(4, max_steps=3)
    xs = cases.random_inputs(rng, 3, (2,)).swapaxes(0, 1)
    stats = to_names({"norm": cases.random_stats(cell.initial_stats(), rng)})
    rnn = nnx_with(
        nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), to_names(cases.random_cell_params(cell, rng)), stats
    )
    rnn.eval()
    whole, each, slope = jax.jit(lambda xs: (rnn(xs), jax.vmap(rnn)(xs), jax.grad(lambda xs: rnn(xs).sum())(xs)))(xs)
    close(each, whole)
    close(nnx_stats(rnn), stats)
    assert np.all(np.isfinite(slope))
    assert np.abs(slope).max() > 0


@pytest.mark.long
def test_nnx_train_eval_and_view(rng):
    spec, x = jn.BatchNorm(momentum=0.5), jnp.asarray(3 + rng.standard_normal((6, 2)), jnp.float32)
    norm = jx.Norm(spec, 2)
    trained = norm(x)
    assert float(jnp.abs(trained.mean())) < 1e-5
    np.testing.assert_allclose(norm.mean[...], 0.5 * x.mean(axis=0), rtol=1e-5)
    norm.eval()
    before = nnx_stats(norm)
    evaluated = norm(x)
    assert float(jnp.abs(evaluated.mean())) > 0.5
    close(before, nnx_stats(norm))
    close(norm(x, use_running_average=False), trained)
    norm.train()
    close(norm(x), trained)
    view = nnx.view(norm, use_running_average=True)
    assert view.use_running_average
    assert not norm.use_running_average
    assert view.mean is norm.mean
    with pytest.raises(ValueError, match="nothing says whether"):
        jx.Norm(spec, 2, use_running_average=None)(x)
    with pytest.raises(ValueError, match=r"num_features=\(3,\)"):
        jx.Norm(spec, 2)(jnp.ones((4, 3)))


@pytest.mark.long
def test_linen_running_average_argument_follows_the_convention(rng, key):
    x = jnp.asarray(rng.standard_normal((6, 2)), jnp.float32)
    norm = jl.Norm(jn.BatchNorm(momentum=0.5))
    with pytest.raises(ValueError, match="use_running_average"):
        norm.init(key, x)
    variables = norm.init(key, x, use_running_average=False)
    close(variables["batch_stats"], {"mean": np.zeros(2), "var": np.ones(2), "count": np.zeros(())})
    with pytest.raises(Exception, match="immutable"):
        norm.apply(variables, x, use_running_average=False)
    jl.Norm(jn.LayerNorm()).init(key, x)  # nothing to choose here
    with pytest.raises(ValueError, match="variable_carry='batch_stats'"):
        jl.Norm(jn.BatchNorm(), use_running_average=True).apply({"params": variables["params"]}, x)


@pytest.mark.long
def test_metadata_and_partitioning(key):
    cell = jn.ln_lstm(4)
    metadata = {
        "kernel_metadata": {"out_sharding": (None, None, "model")},
        "recurrent_kernel_metadata": {"note": "square"},
        "bias_metadata": {"note": "own"},
        "scale_metadata": {"note": "all"},
        "cell_scale_metadata": {"note": "cell"},
    }
    with nnx.use_eager_sharding(False):  # no mesh here to place the weights on
        rnn = nnx.eval_shape(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0), **metadata))
    assert rnn.kernel.get_metadata("out_sharding") == (None, None, "model")
    notes = (rnn.recurrent, rnn.bias, rnn.norm.input.scale, rnn.norm.cell.scale)
    assert [variable.get_metadata("note") for variable in notes] == ["square", "own", "all", "cell"]
    assert "note" not in rnn.norm.cell.bias.get_metadata()  # a leaf of that very name takes it
    with pytest.raises(TypeError, match="no variable 'gain'"):
        jx.Norm(jn.LayerNorm(), 4, gain_metadata={})
    with pytest.raises(TypeError, match="there is no argument 'epsilon'"):
        jx.Norm(jn.LayerNorm(), 4, epsilon={})
    module = jl.RNN(cell, partitioning={"kernel": (None, None, "model"), "scale": (None,)})
    variables = jax.eval_shape(module.init, key, jnp.ones((1, 2, 3)))
    specs = nn.get_partition_spec(variables)["params"]
    assert specs["kernel"] == jax.sharding.PartitionSpec(None, None, "model")
    assert isinstance(variables["params"]["norm"]["cell"]["scale"], nn.Partitioned)


@pytest.mark.long
def test_randomness_comes_with_the_call(key, rng):
    """Noise on the initial state: a key, a stream or nothing; nothing is kept."""
    cell, xs = jn.lstm(4, initial_noise=0.1), jnp.ones((2, 2, 3))
    weights = to_names(cases.random_cell_params(cell, rng))
    rnn = nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), weights)
    with pytest.raises(ValueError, match="needs randomness"):
        rnn(xs)
    stream = nnx.Rngs(carry=1)
    assert float(jnp.abs(rnn(xs, rngs=stream) - rnn(xs, rngs=stream)).max()) > 1e-4
    close(jl.RNN(cell).apply({"params": weights}, xs, init_key=key), rnn(xs, rngs=key))
    counted = jn.bn_lstm(4, max_steps=2)
    parts = nnx_parts(lambda: jx.RNNCell(counted, 3, rngs=nnx.Rngs(0)))
    one = nnx_with(parts, to_names(cases.random_cell_params(counted, rng)))
    close(one.initialize_carry((2, 3)), counted.initial_carry((2,)))
    drawn = one.initialize_carry((2, 3), nnx.Rngs(0), jax.nn.initializers.ones)
    close((drawn.h, drawn.step), (np.ones((2, 4)), np.zeros((2,))))
    with pytest.raises(ValueError, match="carry_init needs randomness"):
        one.initialize_carry((2, 3), None, jax.nn.initializers.ones)


@pytest.mark.long
def test_masks_and_resets(rng):
    cell, xs = jn.ln_gru(4), cases.random_inputs(rng, 5, (3,))
    params = cases.random_cell_params(cell, rng)
    mask, reset = (jnp.asarray(rng.uniform(size=(5, 3)) < chance) for chance in (0.7, 0.3))
    expected = jn.unroll(cell, params, xs, where=mask, reset=reset).outputs
    call = {"mask": mask, "reset": reset, "time_major": True}
    close(jl.RNN(cell).apply({"params": to_names(params)}, xs, **call), expected)
    close(nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), to_names(params))(xs, **call), expected)


@pytest.mark.long
def test_flip_steps_keeps_padding_at_the_end():
    xs = jnp.asarray([[1, 2, 3], [4, 5, 0], [0, 0, 0]])
    want = [[3, 2, 1], [5, 4, 0], [0, 0, 0]]
    assert flip_steps(xs, jnp.asarray([7, 2, 0]), time_axis=1).tolist() == want
    assert flip_steps(xs.T, jnp.asarray([7, 2, 0])).T.tolist() == want
    assert flip_steps(xs, time_axis=-1).tolist() == [[3, 2, 1], [0, 5, 4], [0, 0, 0]]


# ---- checkpoints


@pytest.mark.long
def test_save_and_restore(tmp_path, rng):
    """Orbax takes the variables of linen and of NNX as they are."""
    cell, xs = jn.bn_lstm(4, max_steps=2), cases.random_inputs(rng, 2, (2,))
    params = to_names(cases.random_cell_params(cell, rng))
    stats = to_names({"norm": cases.random_stats(cell.initial_stats(), rng)})
    parts = nnx_parts(lambda: jx.RNN(cell, 3, use_running_average=True, rngs=nnx.Rngs(0)))
    rnn = nnx_with(parts, params, stats)
    for name, tree in (
        ("linen", {"params": params, "batch_stats": stats}),
        ("nnx", nnx.to_pure_dict(nnx.state(rnn))),
    ):
        with warnings.catch_warnings(), ocp.StandardCheckpointer() as checkpointer:
            warnings.simplefilter("ignore")
            checkpointer.save(tmp_path / name, tree)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / name, jax.tree.map(np.zeros_like, tree))
        chex.assert_trees_all_equal(tree, restored)
    fresh = nnx_with(parts, jax.tree.map(np.zeros_like, params), stats)
    nnx.update(fresh, restored)
    np.testing.assert_array_equal(fresh(xs), rnn(xs))
