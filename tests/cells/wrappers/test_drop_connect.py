"""DropConnect on the recurrent kernel against the equations, with the same mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.cells import oracles
from tests.cells.wrappers import mask_tools
from tests.cells.wrappers.mask_tools import HIDDEN, drawn, sequence_key

pytestmark = pytest.mark.long
RATE = 0.4


def test_one_mask_for_all_steps_and_examples(x64, key, rng):
    """The layer norm takes the mean of what is left: the kernel is centered after the mask."""
    (own,) = jax.random.split(sequence_key(key), 1)
    mask = drawn(own, RATE, (HIDDEN, 4, HIDDEN)) / (1 - RATE)

    def step(t, params, carry, x):
        return oracles.ln_lstm_step(params._replace(recurrent=params.recurrent * mask), carry, x)

    mask_tools.check(jn.DropConnect(jn.ln_lstm(HIDDEN), rate=RATE), key, rng, step)


def test_mean_of_the_product_over_masks_is_that_of_the_test(rng):
    cell = jn.DropConnect(jn.lstm(HIDDEN), rate=RATE)
    params, _, carry = mask_tools.example(cell, rng, jnp.float32)

    def product(cell, key):
        return cell.project_state(cell.prepare(params, batch_shape=(mask_tools.BATCH,), key=key), carry)

    many = jax.jit(jax.vmap(lambda key: product(cell, key)))(jax.random.split(jax.random.key(0), 3000))
    mask_tools.check_mean(many, product(jn.deterministic(cell), None))


def test_at_test_time_it_is_the_cell_itself(rng):
    inner = jn.ln_gru(HIDDEN)
    params, xs, carry = mask_tools.example(inner, rng, jnp.float32)
    got = jn.unroll(jn.DropConnect(inner, rate=RATE, deterministic=True), params, xs, carry=carry)
    np.testing.assert_array_equal(got.outputs, jn.unroll(inner, params, xs, carry=carry).outputs)


def test_in_the_compute_dtype(key, rng):
    cell = jn.DropConnect(jn.ln_gru(HIDDEN, dtype=jnp.bfloat16), rate=RATE)
    params, xs, _ = mask_tools.example(cell, rng, jnp.float32)
    out = jax.eval_shape(lambda params: jn.unroll(cell, params, xs, key=key), params)
    assert out.outputs.dtype == jnp.bfloat16
