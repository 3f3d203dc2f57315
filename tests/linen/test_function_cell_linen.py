"""A step of one's own in the modules of Flax linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
from tests.cells import function_steps as steps
from tests.cells.function_steps import DECODER, HIDDEN, IN, same

XS = jax.random.normal(jax.random.key(0), (2, 5, IN))


def test_rnn_declares_the_weights_and_gives_what_unroll_gives():
    rnn = jl.RNN(DECODER, return_carry=True)
    variables = rnn.init(jax.random.key(1), XS)
    assert set(variables["params"]) == {"memory", "kernel", "recurrent", "head", "start"}
    lengths = jnp.array([5, 3])
    params = variables["params"]

    def loss(params):
        carry, ys = rnn.apply({"params": params}, XS, seq_lengths=lengths)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(ys)), (carry, ys)

    def core(params):
        out = jn.unroll(DECODER, params, XS, lengths=lengths, time_axis=1)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(out.outputs)), (out.carry, out.outputs)

    same(jax.value_and_grad(loss, has_aux=True)(params), jax.value_and_grad(core, has_aux=True)(params))
    same(rnn.apply(variables, XS, initial_carry=(jnp.ones((2, HIDDEN)),))[0], jn.unroll(
        DECODER, params, XS, carry=(jnp.ones((2, HIDDEN)),), time_axis=1
    ).carry)  # fmt: skip


def test_reverse_in_processing_order_turns_every_output():
    rnn = jl.RNN(DECODER, reverse=True)
    variables = rnn.init(jax.random.key(1), XS)
    kept = rnn.apply(variables, XS, keep_order=True)
    same(rnn.apply(variables, XS), jax.tree.map(lambda y: y[:, ::-1], kept))


def test_one_step_at_a_time_in_the_driver_of_flax():
    """Keys and integers in the carry pass through ``flax.linen.RNN``."""
    cell = jn.FunctionCell(
        steps.state_space, steps.state_space_start, params_init=lambda key, n: steps.STATE_SPACE_PARAMS
    )
    rnn = nn.RNN(jl.RNNCell(cell), return_carry=True)
    variables = rnn.init(jax.random.key(1), XS)
    carry, ys = rnn.apply(variables, XS, init_key=jax.random.key(5))
    start = steps.state_space_start((2,), key=jax.random.key(5))
    out = jn.unroll(cell, steps.STATE_SPACE_PARAMS, XS, carry=start, time_axis=1)
    same((carry, ys), (out.carry, out.outputs))


def test_a_linen_module_is_the_step():
    """``params_init`` is its ``init``, ``function`` its ``apply``."""
    module = nn.GRUCell(HIDDEN)

    def draw(key, in_features):
        return module.init(key, jnp.zeros((1, HIDDEN)), jnp.zeros((1, in_features)))["params"]

    cell = jn.FunctionCell(
        lambda params, h, x: module.apply({"params": params}, h, x), jnp.zeros(HIDDEN), params_init=draw
    )
    rnn, theirs = jl.RNN(cell), nn.RNN(module)
    variables = rnn.init(jax.random.key(1), XS)
    assert variables["params"].keys() == {"in", "hn", "hr", "hz", "ir", "iz"}
    same(rnn.apply(variables, XS), theirs.apply({"params": {"cell": variables["params"]}}, XS))


def test_weights_without_a_name_are_refused():
    cell = jn.FunctionCell(lambda w, h, x: (h, x * w), 0.0, params_init=lambda key, n: jnp.ones(()))
    with pytest.raises(TypeError, match=r"the weights of a cell .* need names, .*dict or a NamedTuple"):
        jl.RNN(cell).init(jax.random.key(0), XS)
