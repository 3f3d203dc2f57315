"""The constructors of NNX modules initialize outside of the axis; calls inside of it use it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.nnx as jx
from tests import cases

SPREAD = [case for case in cases.NORMS if hasattr(case.spec, "axis_name") and case.spans_devices]


@pytest.mark.parametrize("case", SPREAD, ids=str)
def test_norm_is_made_outside_of_the_axis(case):
    spec = dataclasses.replace(case.spec, axis_name="batch")
    nnx.eval_shape(lambda: jx.Norm(spec, spec.param_shape(case.shape)))


@pytest.mark.long
def test_cells_are_made_outside_of_the_axis_and_called_inside(rng):
    cell = jn.LSTM(4, norm=jn.BatchNorm(axis_name="batch", momentum=0.0, scale_init=0.1))
    rnn = jx.RNN((cell, cell), 3, rngs=nnx.Rngs(0))
    one = jx.RNNCell(cell, 3, rngs=nnx.Rngs(0))
    assert one.initialize_carry((2, 3))[1].shape == (2, 4)
    graph, state = nnx.split(rnn)
    xs = jnp.asarray(rng.standard_normal((3, 2, 5, 3)), jnp.float32)

    @jax.jit
    @lambda run: jax.vmap(run, axis_name="batch")
    def run(xs):
        module = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))  # variables of this trace
        return module(xs), module.layers_0.norm.input.mean[...]

    _, means = run(xs)
    kernel = np.asarray(rnn.layers_0.kernel[...], np.float64).reshape(3, 16)
    want = (np.asarray(xs, np.float64).reshape(-1, 3) @ kernel).mean(0)
    np.testing.assert_allclose(means, np.broadcast_to(want, (3, 1, 16)), atol=1e-5)
