"""What the modules and drivers of Flax get wrong about normalizers and recurrent cells, right here: a test for each.

``row_NN`` counts the defects found in other libraries.
"""

from functools import partial

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
from jaxnorm._shared.names import to_names
from tests import cases

pytestmark = pytest.mark.long


def test_row_03_group_norm_over_features_only_and_under_vmap(rng):
    """Statistics of the wrong groups with the last axis alone; an error for a vector under vmap."""
    x = jnp.asarray(rng.standard_normal((2, 3, 4, 8)), jnp.float32)
    module = jx.Norm(jn.GroupNorm(2, axis=-1), 8)
    groups = np.asarray(x).reshape(2, 3, 4, 2, 4)
    want = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(module(x), want.reshape(x.shape), atol=1e-5)
    vectors = x.reshape(-1, 8)
    np.testing.assert_allclose(jax.vmap(module)(vectors), module(vectors), atol=1e-5)


def test_row_06_nan_in_masked_elements_reaches_no_gradient(rng):
    """NaN behind a mask gave NaN gradients of the input (LayerNorm) and of the weights (RNN with seq_lengths)."""
    x = jnp.asarray(rng.standard_normal((2, 6)), jnp.float32).at[0, 3].set(jnp.nan)
    mask = ~jnp.isnan(x)
    layer = jx.Norm(jn.LayerNorm(), 6)
    linen, xs = jl.RNN(jn.ln_lstm(4)), cases.random_inputs(rng, 4, (2,)).swapaxes(0, 1)
    weights = cases.random_cell_params(jn.ln_lstm(4), rng)
    xs, lengths = xs.at[0, 2:].set(jnp.nan), jnp.asarray([2, 4])
    variables = {"params": to_names(weights)}

    @jax.jit
    def gradients(x, variables, xs):
        def run(variables, xs):
            return linen.apply(variables, xs, seq_lengths=lengths)[0, :2].sum()

        return jax.grad(lambda x: layer(x, mask=mask).sum())(x), jax.grad(run, argnums=(0, 1))(variables, xs)

    chex.assert_tree_all_finite(gradients(x, variables, xs))


def test_row_07_running_statistics_stay_in_float32():
    """Running mean 1000.5 was rounded to bfloat16 first: 4 for data at 1002.5 (1002 or 1004 in bfloat16)."""
    module = jx.Norm(jn.BatchNorm(), 1, use_running_average=True)
    module.mean.set_value(jnp.asarray([1000.5]))
    y = module(jnp.asarray([[1004.0]], jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), 3.5, rtol=1e-2)
    assert module.mean.dtype == module.var.dtype == jnp.float32
    y = jl.Norm(jn.BatchNorm(), True).apply(
        {
            "params": {"scale": jnp.ones(1, jnp.bfloat16), "bias": jnp.zeros(1, jnp.bfloat16)},
            "batch_stats": {"mean": jnp.asarray([1000.5]), "var": jnp.ones(1), "count": jnp.ones(())},
        },
        jnp.asarray([[1004.0]], jnp.bfloat16),
    )
    np.testing.assert_allclose(np.asarray(y, np.float32), 3.5, rtol=1e-2)


def test_row_15_and_16_length_zero_and_several_batch_axes(rng, key):
    """A length of zero returned the state after the last step; two batch axes failed to broadcast."""
    cell, xs = jn.ln_lstm(4), cases.random_inputs(rng, 3, (2, 2))
    xs, lengths = jnp.moveaxis(xs, 0, 2), jnp.asarray([[0, 3], [2, 1]])
    rnn = jx.RNN(cell, 3, rngs=key, return_carry=True)
    carry, ys = rnn(xs, seq_lengths=lengths)
    c, h = carry
    np.testing.assert_array_equal(c[0, 0], np.zeros(4))
    np.testing.assert_array_equal(h[0, 0], np.zeros(4))
    np.testing.assert_array_equal(ys[0, 0], np.zeros((3, 4)))
    alone, _ = rnn(xs[1, 0, :2])
    np.testing.assert_allclose(h[1, 0], alone[1], atol=1e-5)
    variables = {"params": nnx.to_pure_dict(nnx.state(rnn))}
    linen, _ = jl.RNN(cell, return_carry=True).apply(variables, xs, seq_lengths=lengths)
    chex.assert_trees_all_close(linen, carry, rtol=1e-7, atol=1e-6)


def test_row_17_and_18_and_19_bfloat16(rng, key):
    """bfloat16 cells put out float32, could not draw orthogonal weights, or failed in the scan over mixed dtypes."""
    xs = cases.random_inputs(rng, 2, (2,)).swapaxes(0, 1)
    for cell in (jn.ln_lstm(4, dtype=jnp.bfloat16), jn.gru(4, dtype=jnp.bfloat16)):
        assert jx.RNN(cell, 3, rngs=key)(xs).dtype == jnp.bfloat16
        stock = nn.RNN(jl.RNNCell(cell))
        assert jax.eval_shape(stock.init_with_output, key, xs)[0].dtype == jnp.bfloat16
        assert jax.eval_shape(lambda c=cell: nnx.RNN(jx.RNNCell(c, 3, rngs=key))(xs)).dtype == jnp.bfloat16
    for make in (jn.lstm, jn.gru, jn.elman):
        cell = make(4, param_dtype=jnp.bfloat16)
        rnn = nnx.eval_shape(lambda c=cell: jx.RNN(c, 3, rngs=key))
        assert rnn.recurrent.dtype == jnp.bfloat16
        for driver in (nn.RNN(jl.RNNCell(cell)), jl.RNN(cell)):  # float32 inputs
            ys, variables = jax.eval_shape(driver.init_with_output, key, xs)
            assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(variables["params"]))
            assert ys.shape == (2, 2, 4)
    mixed = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), jn.lstm(4).initial_carry((2,)))
    rnn = jx.RNN(jn.lstm(4), 3, rngs=key)
    np.testing.assert_allclose(rnn(xs, initial_carry=mixed), rnn(xs), atol=1e-6)


def test_row_20_closed_over_in_jit_and_vmap_without_any_rng(rng, key):
    """A closed-over RNN raised TraceContextError for its counter of random numbers."""
    xs = cases.random_inputs(rng, 2, (3,)).swapaxes(0, 1)
    rnn = jx.RNN(jn.ln_gru(4), 3, rngs=nnx.Rngs(0))
    whole = jax.jit(lambda xs: rnn(xs))(xs)
    np.testing.assert_allclose(jax.vmap(lambda x: rnn(x))(xs), whole, atol=1e-5)
    cell = jx.RNNCell(jn.ln_gru(4), 3, rngs=nnx.Rngs(0))
    carry = cell.initialize_carry((3, 3))  # rngs=None
    _, y = jax.jit(lambda carry, x: cell(carry, x))(carry, xs[:, 0])
    np.testing.assert_allclose(y, whole[:, 0], atol=1e-5)


def test_row_21_batch_norm_in_stock_rnns_has_statistics_for_each_step(rng, key):
    """BatchNorm in a cell of linen.RNN could not be initialized; in NNX all steps shared one statistic."""
    cell, steps = jn.bn_lstm(4, max_steps=3), 3
    xs = cases.random_inputs(rng, steps, (4,)).swapaxes(0, 1)
    params = cases.random_cell_params(cell, rng)
    training = nn.RNN(jl.RNNCell(cell, use_running_average=False), variable_carry="batch_stats")
    variables = jax.jit(training.init)(key, xs)
    before = {"norm": cell.initial_stats()}
    check(variables["batch_stats"]["cell"], to_names(before))  # initialization moves nothing
    graph, state = nnx.split(nnx.eval_shape(lambda: jx.RNNCell(cell, 3, rngs=key)))

    def core(params):
        out = jn.unroll(cell, params, xs, time_axis=1)
        return jnp.sum(jnp.sin(out.outputs)), to_names({"norm": cell.update_running(before["norm"], out.moments)})

    def linen(params):
        tree = {"params": {"cell": to_names(params)}, "batch_stats": variables["batch_stats"]}
        ys, updates = training.apply(tree, xs, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(ys)), updates["batch_stats"]["cell"]

    def stock_nnx(params):
        pure = to_names(params)
        for site, stats in to_names(before)["norm"].items():
            pure["norm"][site] = {**pure["norm"][site], **stats}
        given = jax.tree.map(lambda leaf: leaf, state)
        nnx.replace_by_pure_dict(given, pure)
        module = nnx.merge(graph, given)
        ys = nnx.RNN(module)(xs)
        return jnp.sum(jnp.sin(ys)), nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    functions = (core, linen, stock_nnx)
    results = jax.jit(lambda p: [jax.value_and_grad(f, has_aux=True)(p) for f in functions])(params)
    for other in results[1:]:
        check(other, results[0])
    table = results[1][0][1]["norm"]["recurrent"]
    np.testing.assert_array_equal(table["count"], [4.0, 4.0, 4.0])
    assert len({float(row.sum()) for row in table["var"]}) == steps

    tree = {"params": {"cell": to_names(params)}, "batch_stats": {"cell": results[0][0][1]}}
    stats = cell.update_running(before["norm"], jn.unroll(cell, params, xs, time_axis=1).moments)
    want = jn.unroll(cell, params, xs, stats=stats, time_axis=1).outputs
    step = jl.RNNCell(cell, use_running_average=True)
    check(nn.RNN(step, variable_broadcast=("params", "batch_stats")).apply(tree, xs), want)
    kept, updates = nn.RNN(step, variable_carry="batch_stats").apply(tree, xs, mutable=["batch_stats"])
    check(kept, want)
    check(updates["batch_stats"], tree["batch_stats"])


check = partial(chex.assert_trees_all_close, rtol=2e-4, atol=2e-5)


def test_row_23_group_norm_takes_a_mask_that_broadcasts(rng):
    """A mask (B, T, 1) was refused although documented; only the full number of features would do."""
    x = jnp.asarray(rng.standard_normal((2, 5, 8)), jnp.float32)
    mask = jnp.asarray([[[True]] * 3 + [[False]] * 2, [[True]] * 5])
    variables = {"params": {"scale": jnp.ones((8,)), "bias": jnp.zeros((8,))}}
    for module in (
        jx.Norm(jn.GroupNorm(2), 8),
        lambda x, mask: jl.Norm(jn.GroupNorm(2)).apply(variables, x, mask=mask),
    ):
        y = module(x.at[0, 3:].set(jnp.nan), mask=mask)
        np.testing.assert_allclose(y, module(x, mask=jnp.broadcast_to(mask, x.shape)), atol=1e-6)
        np.testing.assert_allclose(y[0, :3], jn.group_norm(x[:1, :3], num_groups=2)[0], atol=1e-5)
