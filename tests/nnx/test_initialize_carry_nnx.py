"""``RNNCell.initialize_carry`` makes carries as cells of Flax NNX do: classes that derive from it take them apart."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnorm as jn
import jaxnorm.nnx as jx

B, T, D, H = 3, 4, 2, 5


class Halved(jx.RNNCell):
    """A cell of a user that passes the state on in the form of Flax, and halves it after each step."""

    def __call__(self, carry, inputs):
        c, h = carry
        (c, h), y = super().__call__((c, h), inputs)
        return jax.tree.map(lambda entry: entry / 2, (c, h)), y


def test_a_class_that_derives_from_it_runs_in_the_driver_of_flax(rng):
    cell = Halved(jn.ln_lstm(H), D, rngs=nnx.Rngs(0))
    xs = jnp.asarray(rng.standard_normal((B, T, D)), jnp.float32)
    carry, outputs = nnx.RNN(cell, return_carry=True)(xs)
    params, _ = jx.to_params(cell)
    state = cell.cell.initial_carry((B,))
    for t in range(T):
        state, y = jn.step(cell.cell, params, state, xs[:, t])
        state = jax.tree.map(lambda entry: entry / 2, state)
        np.testing.assert_allclose(outputs[:, t], y, atol=1e-6)
    assert type(carry) is tuple
    np.testing.assert_allclose(carry[0], state.c, atol=1e-6)


def test_an_initializer_fills_the_carry_of_a_gru():
    carry = jx.RNNCell(jn.gru(H), D, rngs=nnx.Rngs(0)).initialize_carry((B, D), nnx.Rngs(0), jax.nn.initializers.ones)
    np.testing.assert_array_equal(carry, np.ones((B, H)))
