"""The Flax modules next to Flax's own drivers: called like them, and running inside of them."""

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
from tests.flax.flax_tools import LENGTHS, close, nnx_parts, nnx_with, same

pytestmark = pytest.mark.long

# ---- as in Flax


def plain_lstm(rng):
    """Weights of a plain LSTM, for our modules, for linen's cell and for that of NNX."""
    cell = jn.lstm(4)
    params = cases.random_cell_params(cell, rng)
    biases = params.bias.reshape(4, 4)
    linen = {
        **{f"i{gate}": {"kernel": params.kernel[:, k]} for k, gate in enumerate("ifgo")},
        **{f"h{gate}": {"kernel": params.recurrent[:, k], "bias": biases[k]} for k, gate in enumerate("ifgo")},
    }
    dense = {
        "dense_i": {"kernel": params.kernel.reshape(3, 16)},
        "dense_h": {"kernel": params.recurrent.reshape(4, 16), "bias": params.bias},
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
            own, other = dict(call), dict(call)
            if "initial_carry" in call:
                own["initial_carry"], other["initial_carry"] = carry, tuple(carry)
            given = xs.swapaxes(0, 1) if call.get("time_major") else xs
            results.append((ours(given, return_carry=True, **own), theirs(given, return_carry=True, **other)))
            results.append((ours(given, **own), theirs(given, **other)))
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
    stock = nnx_parts(lambda: nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
    xs = cases.random_inputs(rng, 5, (3,))

    def theirs(xs, **call):  # made inside of the trace, since Flax's driver keeps a random stream
        return nnx.RNN(nnx_with(stock, weights))(xs, **call)

    compare_calls(ours, theirs, xs.swapaxes(0, 1), carry)
    options = {"time_major": True, "return_carry": True, "reverse": True, "keep_order": True}
    set_at_construction = nnx_with(nnx_parts(lambda: jx.RNN(cell, 3, rngs=nnx.Rngs(0), **options)), to_names(params))
    close(ours(xs, **options), set_at_construction(xs))


# ---- inside of Flax's own drivers


def test_linen_cell_in_stock_drivers(rng):
    """RNN and Bidirectional with ragged lengths; gradients too, and a carry that is learned."""
    cell = jn.ln_lstm(4, learn_carry=True)
    both = [cases.random_cell_params(cell, rng) for _ in range(2)]
    xs = cases.random_inputs(rng, 5, (3,))
    stock = [nn.RNN(jl.RNNCell(cell)), nn.RNN(jl.RNNCell(cell))]
    own_pair = {"params": {f"{name}_rnn": to_names(p) for name, p in zip(("forward", "backward"), both, strict=True)}}
    real = (np.arange(5) < np.asarray(LENGTHS)[:, None])[..., None]

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
    real = (np.arange(5) < np.asarray(LENGTHS)[:, None])[..., None]

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


@pytest.mark.parametrize("case", cases.CELLS, ids=str)
def test_every_cell_runs_in_stock_drivers(case):
    """Traced, not computed: outputs and carry have the shapes and dtypes that the core gives."""
    cell, xs = case.cell, jnp.zeros((3, 5, cases.IN_FEATURES))  # batch, time, features
    params = jax.eval_shape(lambda key: cell.init(key, cases.IN_FEATURES), jax.random.key(0))
    out = jax.eval_shape(lambda p: jn.unroll(cell, p, xs, time_axis=1), params)
    with jax.numpy_rank_promotion("allow"):
        rnn = nn.RNN(jl.RNNCell(cell, use_running_average=False), return_carry=True, variable_carry="batch_stats")
        linen = jax.eval_shape(lambda key: rnn.init_with_output(key, xs)[0], jax.random.key(0))
        module = nnx.eval_shape(lambda: jx.RNNCell(cell, cases.IN_FEATURES, rngs=nnx.Rngs(0)))
        stock = nnx.eval_shape(lambda module: nnx.RNN(module, return_carry=True)(xs), module)
    for carry, outputs in (linen, stock):
        assert (outputs.shape, outputs.dtype) == (out.outputs.shape, out.outputs.dtype)
        # In the form of Flax, tuples and bare arrays: the leaves are those of the core.
        assert [(a.shape, a.dtype) for a in jax.tree.leaves(carry)] == [
            (a.shape, a.dtype) for a in jax.tree.leaves(out.carry)
        ]
