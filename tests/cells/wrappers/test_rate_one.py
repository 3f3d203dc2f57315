"""A dropout of rate one drops all: the cell computes with zeros in that place, and nothing is NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases

T, B, D, H = 3, 2, 3, 4
KEY = jax.random.key(3)


def no_state(params, xs):
    return params._replace(recurrent=jnp.zeros_like(params.recurrent)), xs


def no_inputs(params, xs):
    return params, jnp.zeros_like(xs)


# The cell, and what the cell inside computes with instead.
DROPPED = {
    "state": (jn.VariationalDropout(jn.ln_lstm(H), rate=1.0), no_state),
    "state of each gate": (jn.VariationalDropout(jn.gru(H), rate=1.0, tied=False), no_state),
    "inputs": (jn.VariationalDropout(jn.ln_lstm(H), input_rate=1.0), no_inputs),
    "connections": (jn.DropConnect(jn.ln_lstm(H), rate=1.0), no_state),
}


@pytest.mark.parametrize("name", DROPPED)
def test_values_and_gradients_are_those_without(name, rng):
    cell, without = DROPPED[name]
    params, xs = cases.random_cell_params(cell, rng), jnp.asarray(rng.standard_normal((T, B, D)), jnp.float32)

    def outputs(cell, params, xs):
        return jn.unroll(cell, params, xs, key=KEY).outputs

    loss = jax.value_and_grad(lambda params: jnp.sum(jnp.sin(outputs(cell, params, xs))))
    value, slope = loss(params)
    np.testing.assert_allclose(value, jnp.sum(jnp.sin(outputs(cell.cell, *without(params, xs)))), rtol=1e-5)
    assert all(map(np.all, map(np.isfinite, jax.tree.leaves(slope))))
    assert not np.any(slope.recurrent if without is no_state else slope.kernel)
    whole = outputs(jn.deterministic(cell), params, xs)  # evaluation drops nothing
    np.testing.assert_allclose(whole, outputs(cell.cell, params, xs), rtol=1e-6)


def test_a_highway_without_its_state(rng):
    cell = jn.zoo.RecurrentHighway(H, 1, rate=1.0, input_rate=1.0)
    params = cases.random_cell_params(cell, rng)
    xs = jnp.asarray(rng.standard_normal((T, B, D)), jnp.float32)
    ys = jn.unroll(cell, params, xs, key=KEY).outputs
    np.testing.assert_array_equal(ys, jn.unroll(cell, params, 2 * xs, key=KEY).outputs)
    assert np.all(np.isfinite(ys))
