"""Integer and boolean inputs of cells are promoted to the dtype of the kernels, as in Flax, Haiku and Keras."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm import analysis
from jaxnorm._shared.names import to_names
from tests import cases
from tests.flax.flax_tools import close
from tests.tools.peers import import_peer

pytestmark = pytest.mark.long

KINDS = (jnp.int32, jnp.uint8, bool)


def numbers(rng):
    return rng.integers(0, 2, (5, 2, 3))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: np.dtype(kind).name)
@pytest.mark.parametrize("method", ["chunked", "scan"])
def test_values_and_gradients_are_those_of_the_numbers(kind, method, rng):
    cell, xs = jn.ln_lstm(4), numbers(rng)
    params = cases.random_cell_params(cell, rng)

    def loss(params, xs):
        return jn.unroll(cell, params, xs, method=method, lengths=jnp.array([5, 3])).outputs.sum()

    run = jax.jit(jax.value_and_grad(loss))
    close(run(params, jnp.asarray(xs, kind)), run(params, jnp.asarray(xs, jnp.float32)))


@pytest.mark.parametrize("case", cases.rows(cases.SPECIFIED), ids=str)
def test_every_cell_takes_them(case, key):
    params = jax.eval_shape(lambda: case.cell.init(key, 3))

    def run(params, xs):
        return jn.unroll(case.cell, params, xs, key=key)

    want = jax.eval_shape(run, params, jax.ShapeDtypeStruct((5, 2, 3), jnp.float32))
    assert jax.eval_shape(run, params, jax.ShapeDtypeStruct((5, 2, 3), jnp.int32)) == want


def test_dtypes(rng):
    """The dtype of the kernels, or the cell's own."""
    xs = jnp.asarray(numbers(rng), jnp.int32)
    for cell, want in (
        (jn.lstm(4, param_dtype=jnp.bfloat16), jnp.bfloat16),
        (jn.lstm(4, dtype=jnp.float16), jnp.float16),
        (jn.lstm(4), jnp.float32),
    ):
        params = jax.eval_shape(lambda cell=cell: cell.init(jax.random.key(0), 3))
        assert jax.eval_shape(lambda params, cell=cell: jn.unroll(cell, params, xs).outputs, params).dtype == want


def test_functions_that_call_the_loop(rng, key):
    xs, cells = numbers(rng), (jn.gru(3), jn.gru(3))
    params = tuple(cases.random_cell_params(cell, rng) for cell in cells)
    pooled = jn.LSTM(4, norm=jn.CellNorms(input=jn.BatchNorm()))
    weights = cases.random_cell_params(pooled, rng)
    skipped = (params[0], cases.random_cell_params(cells[1], rng, 6))
    functions = (
        lambda xs: jn.stack(cells, params, xs).outputs,
        lambda xs: jn.bidirectional(cells, params, xs).outputs,
        lambda xs: jn.residual_stack(cells, params, xs, first=0, lengths=jnp.array([5, 3])).outputs,
        lambda xs: jn.skip_stack(cells, skipped, xs).outputs,
        lambda xs: jn.sequence_statistics(pooled, weights, xs),
        lambda xs: analysis.activation_statistics(cells[0], params[0], xs),
    )
    for function in functions:
        close(*(jax.jit(function)(jnp.asarray(xs, dtype)) for dtype in (jnp.int32, jnp.float32)))


def test_flax_modules_and_peers(rng, key):
    """The shapes and dtypes of Flax and Haiku; values of our own modules."""
    xs = jnp.asarray(numbers(rng), jnp.int32)
    cell = jn.lstm(4)
    weights = to_names(cases.random_cell_params(cell, rng))
    rnn = jx.RNN(cell, 3, time_major=True, rngs=nnx.Rngs(0))
    state = nnx.state(rnn)
    nnx.replace_by_pure_dict(state, weights)
    nnx.update(rnn, state)
    linen = jl.RNN(cell, time_major=True)
    for module in (rnn, lambda xs: linen.apply({"params": weights}, xs)):
        close(module(xs), module(xs.astype(jnp.float32)))
    one = jl.RNNCell(cell)
    close(*(nn.RNN(one, time_major=True).apply({"params": {"cell": weights}}, a) for a in (xs, xs.astype(float))))
    assert jax.eval_shape(lambda: linen.init(key, xs))["params"]["kernel"].dtype == jnp.float32
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        flax = nn.RNN(nn.OptimizedLSTMCell(4), time_major=True).init_with_output(key, xs)[0]
        hk = import_peer("haiku")
        haiku = hk.transform(lambda x: hk.LSTM(4)(x, hk.LSTM(4).initial_state(2))[0])
        there = jax.eval_shape(lambda: haiku.apply(haiku.init(key, xs[0].astype(float)), None, xs[0]))
    assert flax.dtype == there.dtype == rnn(xs).dtype == jnp.float32
