"""The contract of the Flax modules: linen, NNX and the core compute the same, for every row of the table."""

import warnings

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
from jaxnorm.engine.names import to_names
from jaxnorm.engine.order import flip_steps
from tests import cases

every_norm = pytest.mark.parametrize("case", cases.NORMS, ids=str)
every_cell = pytest.mark.parametrize("case", cases.CELLS, ids=str)
LENGTHS = jnp.asarray([5, 2, 3])
close = jax.tree_util.Partial(jax.tree.map, lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5))


def nnx_parts(build):
    """The graph of an NNX module and the places of its variables; nothing is computed."""
    return nnx.split(nnx.eval_shape(build))


def nnx_with(parts, *named):
    """A module with the given weights and statistics."""
    graph, state = parts
    state = jax.tree.map(lambda leaf: leaf, state)
    pure = {}
    for tree in named:
        merge_into(pure, tree)
    nnx.replace_by_pure_dict(state, pure)
    return nnx.merge(graph, state)


def merge_into(pure, tree):
    for name, value in tree.items():
        if isinstance(value, dict):
            merge_into(pure.setdefault(name, {}), value)
        else:
            pure[name] = value


def same(results):
    """The first result, that of the core, is that of the others."""
    for other in results[1:]:
        close(results[0], other)


def nnx_stats(module):
    return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


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
        y, measured = spec(params, x, running if use else None, mask)
        return y, to_names(running if use else spec.fold(running, measured))

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


@every_cell
def test_rnn_modules_equal_the_core(case, rng):
    """Values, carry, gradients and statistics, in training with ragged lengths and with running statistics."""
    cell = case.cell
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 5, (3,))
    running = cases.random_stats(cell.initial_stats(), rng)
    linen, parts = jl.RNN(cell, return_carry=True), nnx_parts(lambda: jx.RNN(cell, 3, rngs=jax.random.key(0)))

    def core(params, xs, use):
        out = jn.unroll(cell, params, xs, lengths=LENGTHS, stats=running if use else None)
        stats = running if use else cell.fold(running, out.moments)
        return (out.carry, out.outputs.swapaxes(0, 1)), to_names({"norm": stats})

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

    @jax.jit
    def every(params, xs):
        def loss(function, use):
            def of(params, xs):
                (carry, ys), stats = function(params, xs, use)
                return jnp.sum(jnp.sin(ys)), ((carry, ys), stats)

            return jax.value_and_grad(of, argnums=(0, 1), has_aux=True)(params, xs)

        uses = (False, True) if case.batch_statistics else (False,)
        return [[loss(function, use) for function in (core, with_linen, with_nnx)] for use in uses]

    for results in every(params, xs):
        same(results)


def test_names_of_variables(key):
    cell = jn.bn_lstm(4, max_steps=3)
    linen = jax.eval_shape(lambda key: jl.RNN(cell).init(key, jnp.ones((1, 2, 3)), use_running_average=True), key)
    affine, table = {"scale": (4, 4)}, {"mean": (3, 4, 4), "var": (3, 4, 4), "count": (3,)}
    cell_table = {"mean": (3, 4), "var": (3, 4), "count": (3,)}
    weights = {
        "kernel": (3, 4, 4),
        "recurrent": (4, 4, 4),
        "bias": (4, 4),
        "norm": {"input": affine, "recurrent": affine, "cell": {"scale": (4,), "bias": (4,)}},
    }
    stats = {"norm": {"input": table, "recurrent": table, "cell": cell_table}}
    shapes = {"params": weights, "batch_stats": stats}
    assert jax.tree.map(lambda leaf: leaf.shape, linen) == shapes
    module = nnx.eval_shape(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0)))
    for kind, expected in ((nnx.Param, weights), (nnx.BatchStat, stats)):
        assert jax.tree.map(lambda leaf: leaf.shape, nnx.to_pure_dict(nnx.state(module, kind))) == expected
    assert module.norm.input.scale.shape == (4, 4)
    assert not hasattr(nnx.eval_shape(lambda: jx.RNN(jn.lstm(4, use_bias=False), 3, rngs=nnx.Rngs(0))), "bias")
    assert not [leaf for _, leaf in nnx.iter_graph(module) if isinstance(leaf, (nnx.RngState, nnx.Rngs))]


def test_initial_weights_are_those_of_the_cell(key):
    """NNX takes the key as it is; linen derives one from it. Initialization moves no statistic."""
    cell, xs = jn.bn_lstm(4, max_steps=3), jnp.ones((1, 2, 3))
    close(to_names(cell.init(key, 3)), nnx.to_pure_dict(nnx.state(jx.RNN(cell, 3, rngs=key), nnx.Param)))
    variables = jax.jit(lambda key: jl.RNN(cell, use_running_average=False).init(key, xs))(key)
    close(to_names({"norm": cell.initial_stats()}), variables["batch_stats"])
    gram = np.einsum("igh,igk->ghk", *[variables["params"]["recurrent"]] * 2)
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(4), (4, 4, 4)), atol=1e-5)


# ---- as in Flax


def plain_lstm(rng):
    """Weights of a plain LSTM, for our modules, for linen's cell and for that of NNX."""
    cell = jn.lstm(4)
    params = cases.random_cell_params(cell, rng)
    linen = {
        **{f"i{gate}": {"kernel": params.kernel[:, k]} for k, gate in enumerate("ifgo")},
        **{f"h{gate}": {"kernel": params.recurrent[:, k], "bias": params.bias[k]} for k, gate in enumerate("ifgo")},
    }
    dense = {
        "dense_i": {"kernel": params.kernel.reshape(3, 16)},
        "dense_h": {"kernel": params.recurrent.reshape(4, 16), "bias": params.bias.reshape(16)},
    }
    return cell, params, linen, dense


CALLS = (
    {"seq_lengths": LENGTHS},
    {"seq_lengths": LENGTHS, "reverse": True},
    {"seq_lengths": LENGTHS, "reverse": True, "keep_order": True},
    {"reverse": True, "initial_carry": None},
    {"reverse": True, "keep_order": True, "time_major": True},
)


def compare_calls(ours, theirs, xs, carry):
    """Runs both with every set of keywords; what Flax puts out after the end of a sequence is not looked at."""

    @jax.jit
    def both(xs):
        results = []
        for call in CALLS:
            call = {**call, **({"initial_carry": carry} if "initial_carry" in call else {})}
            given = xs.swapaxes(0, 1) if call.get("time_major") else xs
            results.append((ours(given, return_carry=True, **call), theirs(given, return_carry=True, **call)))
            results.append((ours(given, **call), theirs(given, **call)))
        return results

    with jax.numpy_rank_promotion("allow"):
        results = both(xs)
    for k, (own, other) in enumerate(results):
        call = CALLS[k // 2]
        if k % 2 == 0:
            close(tuple(own[0]), tuple(other[0]))
            own, other = own[1], other[1]
        if "seq_lengths" in call:
            real = np.arange(5) < np.asarray(LENGTHS)[:, None]
            assert not np.any(own[~real])
            own, other = own[real], other[real]
        close(own, other)


def test_linen_calls_as_in_flax(rng):
    cell, params, weights, _ = plain_lstm(rng)
    carry = jn.LSTMCarry(*jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32))
    ours, theirs = jl.RNN(cell), nn.RNN(nn.OptimizedLSTMCell(4))
    compare_calls(
        lambda xs, **call: ours.apply({"params": to_names(params)}, xs, **call),
        lambda xs, **call: theirs.apply({"params": {"cell": weights}}, xs, **call),
        cases.random_inputs(rng, 5, (3,)).swapaxes(0, 1),
        carry,
    )
    options = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    xs = cases.random_inputs(rng, 5, (3,))
    given = ours.apply({"params": to_names(params)}, xs, **options)
    close(given, jl.RNN(cell, **options).apply({"params": to_names(params)}, xs))


def test_nnx_calls_as_in_flax(rng):
    cell, params, _, weights = plain_lstm(rng)
    carry = jn.LSTMCarry(*jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32))
    ours = nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), to_names(params))
    stock = nnx_with(nnx_parts(lambda: nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))), weights)
    xs = cases.random_inputs(rng, 5, (3,))
    compare_calls(ours, lambda xs, **call: nnx_rnn(stock, xs, **call), xs.swapaxes(0, 1), carry)
    options = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    set_at_construction = nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0), **options)), to_names(params))
    close(ours(xs, **options), set_at_construction(xs))


def nnx_rnn(cell, xs, **call):
    """Flax's own driver, made inside of the trace, since it keeps a random stream."""
    graph, state = nnx.split(cell)
    return nnx.RNN(nnx.merge(graph, state))(xs, **call)


# ---- inside of Flax's own drivers


def test_linen_cell_in_stock_drivers(rng):
    """RNN and Bidirectional with ragged lengths; gradients too, and a carry that is learned."""
    cell = jn.ln_lstm(4, learn_carry=True)
    both = [cases.random_cell_params(cell, rng) for _ in range(2)]
    xs = cases.random_inputs(rng, 5, (3,))
    stock = [nn.RNN(jl.RNNCell(cell)), nn.RNN(jl.RNNCell(cell))]
    own_pair = {"params": {f"{name}_rnn": to_names(p) for name, p in zip(("forward", "backward"), both, strict=True)}}
    real = (jnp.arange(5) < LENGTHS[:, None])[..., None]

    def core(both, xs):
        return jn.bidirectional((cell, cell), both, xs, lengths=LENGTHS).outputs.swapaxes(0, 1)

    def driven(both, xs):
        names = {
            "params": {
                f"{name}_rnn": {"cell": to_names(p)} for name, p in zip(("forward", "backward"), both, strict=True)
            }
        }
        return nn.Bidirectional(*stock).apply(names, xs.swapaxes(0, 1), seq_lengths=LENGTHS)

    def own(both, xs):
        return nn.Bidirectional(jl.RNN(cell), jl.RNN(cell)).apply(own_pair, xs.swapaxes(0, 1), seq_lengths=LENGTHS)

    @jax.jit
    def every(both, xs):
        def masked(function, both, xs):
            return jnp.where(real, function(both, xs), 0)

        def gradient(function):
            return jax.grad(lambda both: jnp.sum(jnp.sin(masked(function, both, xs))))(both)

        values = [masked(function, both, xs) for function in (core, driven, own)]
        return values, [gradient(core), gradient(driven)]

    with jax.numpy_rank_promotion("allow"):
        values, gradients = every(both, xs)
    same(values)
    same(gradients)


def test_nnx_cell_in_stock_drivers(rng):
    cell = jn.ln_lstm(4, learn_carry=True)
    both = [cases.random_cell_params(cell, rng) for _ in range(2)]
    xs = cases.random_inputs(rng, 5, (3,))
    step, whole = (nnx_parts(lambda kind=kind: kind(cell, 3, rngs=nnx.Rngs(0))) for kind in (jx.RNNCell, jx.RNN))
    real = (jnp.arange(5) < LENGTHS[:, None])[..., None]

    def core(both, xs):
        return jn.bidirectional((cell, cell), both, xs, lengths=LENGTHS).outputs.swapaxes(0, 1)

    def driven(both, xs):
        rnns = [nnx.RNN(nnx_with(step, to_names(p))) for p in both]
        return nnx.Bidirectional(*rnns)(xs.swapaxes(0, 1), seq_lengths=LENGTHS)

    def own(both, xs):
        rnns = [nnx_with(whole, to_names(p)) for p in both]
        return nnx.Bidirectional(*rnns)(xs.swapaxes(0, 1), seq_lengths=LENGTHS)

    @jax.jit
    def every(both, xs):
        def masked(function, both):
            return jnp.where(real, function(both, xs), 0)

        def gradient(function):
            return jax.grad(lambda both: jnp.sum(jnp.sin(masked(function, both))))(both)

        return [masked(function, both) for function in (core, driven, own)], [gradient(core), gradient(driven)]

    with jax.numpy_rank_promotion("allow"):
        values, gradients = every(both, xs)
    same(values)
    same(gradients)


# ---- NNX transformations, views, metadata


def test_nnx_module_closed_over_in_transformations(rng):
    """Plain jax.jit, vmap and grad over a closed-over module: it keeps no random state and writes nothing."""
    cells = (jn.ln_lstm(4), jn.bn_lstm(4, max_steps=3))
    xs = cases.random_inputs(rng, 3, (2,)).swapaxes(0, 1)
    for cell in cells:
        rnn = jx.RNN(cell, 3, rngs=nnx.Rngs(0))
        rnn.eval()
        once = jax.jit(lambda xs, rnn=rnn: rnn(xs))(xs)
        close(jax.jit(jax.vmap(lambda x, rnn=rnn: rnn(x)))(xs), once)
        slope = jax.jit(jax.grad(lambda xs, rnn=rnn: rnn(xs).sum()))(xs)
        assert bool(jnp.all(jnp.isfinite(slope)))
        assert float(jnp.abs(slope).max()) > 0


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


def test_metadata_and_partitioning(key):
    cell = jn.ln_lstm(4)
    rnn = nnx.eval_shape(
        lambda: jx.RNN(
            cell,
            3,
            rngs=nnx.Rngs(0),
            kernel_metadata={"out_sharding": (None, None, "model")},
            recurrent_kernel_metadata={"note": "square"},
            bias_metadata={"note": "own"},
            scale_metadata={"note": "all"},
            cell_scale_metadata={"note": "cell"},
        )
    )
    assert rnn.kernel.get_metadata("out_sharding") == (None, None, "model")
    notes = (rnn.recurrent, rnn.bias, rnn.norm.input.scale, rnn.norm.cell.scale)
    assert [variable.get_metadata("note") for variable in notes] == ["square", "own", "all", "cell"]
    assert "note" not in rnn.norm.cell.bias.get_metadata()  # a leaf of that very name takes it
    with pytest.raises(TypeError, match="no variable 'gain'"):
        jx.Norm(jn.LayerNorm(), 4, gain_metadata={})
    with pytest.raises(TypeError, match="unexpected argument"):
        jx.Norm(jn.LayerNorm(), 4, epsilon=1.0)
    module = jl.RNN(cell, partitioning={"kernel": (None, None, "model"), "scale": (None,)})
    variables = jax.eval_shape(module.init, key, jnp.ones((1, 2, 3)))
    specs = nn.get_partition_spec(variables)["params"]
    assert specs["kernel"] == jax.sharding.PartitionSpec(None, None, "model")
    assert isinstance(variables["params"]["norm"]["cell"]["scale"], nn.Partitioned)


def test_randomness_comes_with_the_call(key):
    """Noise on the initial state: a key, a stream or nothing; nothing is kept."""
    cell, xs = jn.lstm(4, initial_noise=0.1), jnp.ones((2, 2, 3))
    rnn = jx.RNN(cell, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="needs randomness"):
        rnn(xs)
    close(rnn(xs, rngs=key), rnn(xs, rngs=key))
    stream = nnx.Rngs(carry=1)
    assert float(jnp.abs(rnn(xs, rngs=stream) - rnn(xs, rngs=stream)).max()) > 1e-4
    variables = {"params": nnx.to_pure_dict(nnx.state(rnn))}
    close(jl.RNN(cell).apply(variables, xs, init_key=key), rnn(xs, rngs=key))
    one = jx.RNNCell(jn.bn_lstm(4, max_steps=2), 3, rngs=nnx.Rngs(0))
    close(one.initialize_carry((2, 3)), jn.bn_lstm(4, max_steps=2).initial_carry((2,)))
    drawn = one.initialize_carry((2, 3), nnx.Rngs(0), jax.nn.initializers.ones)
    close((drawn.h, drawn.step), (np.ones((2, 4)), np.zeros((2,))))
    with pytest.raises(ValueError, match="carry_init needs randomness"):
        one.initialize_carry((2, 3), None, jax.nn.initializers.ones)


def test_masks_and_resets(rng):
    cell, xs = jn.ln_gru(4), cases.random_inputs(rng, 5, (3,))
    params = cases.random_cell_params(cell, rng)
    mask, reset = (jnp.asarray(rng.uniform(size=(5, 3)) < chance) for chance in (0.7, 0.3))
    expected = jn.unroll(cell, params, xs, where=mask, reset=reset).outputs
    call = {"mask": mask, "reset": reset, "time_major": True}
    close(jl.RNN(cell).apply({"params": to_names(params)}, xs, **call), expected)
    close(nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0))), to_names(params))(xs, **call), expected)


def test_flip_steps_keeps_padding_at_the_end():
    xs = jnp.asarray([[1, 2, 3], [4, 5, 0], [0, 0, 0]])
    want = [[3, 2, 1], [5, 4, 0], [0, 0, 0]]
    assert flip_steps(xs, jnp.asarray([7, 2, 0]), time_axis=1).tolist() == want
    assert flip_steps(xs.T, jnp.asarray([7, 2, 0])).T.tolist() == want
    assert flip_steps(xs, time_axis=-1).tolist() == [[3, 2, 1], [0, 5, 4], [0, 0, 0]]


# ---- checkpoints


def test_save_and_restore(tmp_path, rng, key):
    """Orbax takes the variables of linen and of NNX as they are."""
    cell, xs = jn.bn_lstm(4, max_steps=2), cases.random_inputs(rng, 2, (2,))
    linen = jl.RNN(cell, use_running_average=True)
    variables = linen.init(key, xs)
    rnn = jx.RNN(cell, 3, rngs=key)
    rnn(xs)  # moves the statistics
    state = nnx.to_pure_dict(nnx.state(rnn))
    for name, tree in (("linen", variables), ("nnx", state)):
        with warnings.catch_warnings(), ocp.StandardCheckpointer() as checkpointer:
            warnings.simplefilter("ignore")
            checkpointer.save(tmp_path / name, tree)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / name, jax.tree.map(jnp.zeros_like, tree))
        jax.tree.map(np.testing.assert_array_equal, tree, restored)
    fresh = jx.RNN(cell, 3, rngs=jax.random.key(9))
    nnx.update(fresh, restored)
    rnn.eval(), fresh.eval()
    np.testing.assert_array_equal(fresh(xs), rnn(xs))
