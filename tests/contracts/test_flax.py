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
    mask = jnp.asarray(rng.uniform(size=case.shape) < 0.8)
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
