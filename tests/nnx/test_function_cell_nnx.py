"""A step of one's own in the modules of Flax NNX."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.nnx as jx
from tests.cells import function_steps as steps
from tests.cells.function_steps import DECODER, HIDDEN, IN, same

XS = jax.random.normal(jax.random.key(0), (2, 5, IN))


def test_rnn_keeps_the_weights_and_gives_what_unroll_gives():
    rnn = jx.RNN(DECODER, IN, rngs=nnx.Rngs(0))
    params = {name: value[...] for name, value in nnx.state(rnn, nnx.Param).items()}
    assert set(params) == {"memory", "kernel", "recurrent", "head", "start"}
    same(rnn(XS), jn.unroll(DECODER, params, XS, time_axis=1).outputs)
    start = (jnp.ones((2, HIDDEN)),)
    got = rnn(XS, initial_carry=start, reverse=True, return_carry=True)
    out = jn.unroll(DECODER, params, XS, carry=start, reverse=True, time_axis=1)
    same(got, (out.carry, jax.tree.map(lambda y: y[:, ::-1], out.outputs)))
    slope = nnx.grad(lambda rnn: rnn(XS)[0].sum())(rnn)
    expected = jax.grad(lambda p: jn.unroll(DECODER, p, XS, time_axis=1).outputs[0].sum())(params)
    same({name: value[...] for name, value in slope.items()}, expected)


def test_one_step_at_a_time_in_the_driver_of_flax():
    cell = jn.FunctionCell(
        steps.state_space, steps.state_space_start, params_init=lambda key, n: steps.STATE_SPACE_PARAMS
    )
    rnn = nnx.RNN(jx.RNNCell(cell, IN, rngs=nnx.Rngs(0)), return_carry=True)
    start = steps.state_space_start((2,), key=jax.random.key(5))
    carry, ys = rnn(XS, initial_carry=start)
    out = jn.unroll(cell, steps.STATE_SPACE_PARAMS, XS, carry=start, time_axis=1)
    same((carry, ys), (out.carry, out.outputs))


def test_weights_with_the_name_of_an_attribute_are_refused():
    for name in ("cell", "reverse", "train"):
        cell = jn.FunctionCell(
            lambda w, h, x: (h, x), 0.0, params_init=lambda key, n, name=name: {name: {"kernel": jnp.ones(2)}}
        )
        with pytest.raises(ValueError, match=rf"RNN: a weight cannot have the name '{name}', .* rename"):
            jx.RNN(cell, IN, rngs=nnx.Rngs(0))
