"""Variational dropout against the equations, with the same masks, tied and untied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.wrappers import mask_tools
from tests.cells.wrappers.mask_tools import BATCH, FEATURES, HIDDEN, drawn, sequence_key

pytestmark = pytest.mark.long
INPUT_RATE, RATE = 0.5, 0.3


def masks_of(key, gates=(), depth=0):
    """Those of the inputs and of the state, scaled so that their mean is one."""
    keys, sizes = jax.random.split(sequence_key(key, depth)), ((INPUT_RATE, FEATURES), (RATE, HIDDEN))
    return tuple(
        drawn(k, rate, (*gates, BATCH, size)) / (1 - rate) for k, (rate, size) in zip(keys, sizes, strict=True)
    )


def test_tied_masks_on_inputs_and_state(x64, key, rng):
    inputs, state = masks_of(key)

    def step(t, params, carry, x):
        c, h = carry
        return oracles.ln_lstm_step(params, (c, state * h), inputs * x)

    mask_tools.check(jn.VariationalDropout(jn.ln_lstm(HIDDEN), rate=RATE, input_rate=INPUT_RATE), key, rng, step)


def gru_step(params, carry, x, inputs, state):
    """The LN-GRU with a masked input and a masked state in front of each gate's products; h itself is whole."""
    (h,) = carry

    def side(v, masks, kernel, affine, bias):
        products = [(v * mask) @ kernel[:, k] for k, mask in enumerate(masks)]
        first = oracles.layer_norm(np.concatenate(products[:2], axis=-1), *(a[: 2 * HIDDEN] for a in affine))
        last = oracles.layer_norm(products[2], *(a[2 * HIDDEN :] for a in affine))
        return np.split(np.concatenate([first, last], axis=-1) + bias, 3, axis=-1)

    r_x, z_x, n_x = side(x, inputs, params.kernel, params.norm.input, params.bias)
    r_h, z_h, n_h = side(h, state, params.recurrent, params.norm.recurrent, params.recurrent_bias)
    z = oracles.sigmoid(z_x + z_h)
    h = (1 - z) * h + z * np.tanh(n_x + oracles.sigmoid(r_x + r_h) * n_h)
    return (h,), h


@pytest.mark.parametrize("tied", [True, False])
def test_gru_sees_the_masks_in_its_products_only(tied, x64, key, rng):
    """Untied the mean of a layer norm is that of products of different inputs: no kernel can be centered for it."""
    inputs, state = masks_of(key, () if tied else (3,))
    if tied:
        inputs, state = (np.broadcast_to(mask, (3, *mask.shape)) for mask in (inputs, state))

    def step(t, params, carry, x):
        return gru_step(params, carry, x, inputs, state)

    cell = jn.VariationalDropout(jn.ln_gru(HIDDEN), rate=RATE, input_rate=INPUT_RATE, tied=tied)
    mask_tools.check(cell, key, rng, step)


def test_untied_norm_of_the_sum(x64, key, rng):
    inputs, state = masks_of(key, (4,), depth=1)

    def step(t, params, carry, x):
        c, h = carry
        products = [(h * state[k]) @ params.recurrent[:, k] + (x * inputs[k]) @ params.kernel[:, k] for k in range(4)]
        gates = oracles.layer_norm(np.concatenate(products, axis=-1), *params.norm.summed)
        i, f, g, o = np.split(gates + params.bias, 4, axis=-1)
        c = oracles.sigmoid(f) * c + oracles.sigmoid(i) * np.tanh(g)
        h = oracles.sigmoid(o) * np.tanh(c)
        return (c, h), h

    inner = jn.LSTM(HIDDEN, norm=jn.CellNorms(summed=jn.LayerNorm()))
    untied = jn.VariationalDropout(inner, rate=RATE, input_rate=INPUT_RATE, tied=False)
    mask_tools.check(jn.Zoneout(untied), key, rng, step)


@pytest.mark.parametrize("tied", [True, False])
def test_mean_of_the_products_over_masks_is_that_of_the_test(tied, rng):
    inner = jn.lstm(HIDDEN)
    cell = jn.VariationalDropout(inner, rate=RATE, input_rate=INPUT_RATE, tied=tied)
    params, xs, carry = mask_tools.example(cell, rng, jnp.float32)

    def products(cell, key):
        weights = cell.prepare(params, batch_shape=(BATCH,), key=key)
        return cell.project_inputs(weights, xs), cell.project_state(weights, carry)

    many = jax.jit(jax.vmap(lambda key: products(cell, key)))(jax.random.split(jax.random.key(0), 3000))
    jax.tree.map(mask_tools.check_mean, many, products(jn.deterministic(cell), None))


def test_at_test_time_it_is_the_cell_itself(rng):
    inner = jn.ln_lstm(HIDDEN)
    params, xs, carry = mask_tools.example(inner, rng, jnp.float32)
    expected = jn.unroll(inner, params, xs, carry=carry).outputs
    for cell in (jn.VariationalDropout(inner, rate=0.5, tied=False, deterministic=True), jn.VariationalDropout(inner)):
        np.testing.assert_array_equal(jn.unroll(cell, params, xs, carry=carry).outputs, expected)


def test_bfloat16_keeps_the_mean(key, rng):
    """Masks are multiplied in float32: 1 / 0.7 is not a number of bfloat16."""
    cell = jn.VariationalDropout(jn.lstm(HIDDEN, dtype=jnp.bfloat16), rate=RATE)
    params = cases.random_cell_params(cell, rng)
    weights = cell.prepare(params, dtype=jnp.bfloat16, batch_shape=(BATCH,), key=key)
    h = jnp.asarray(rng.standard_normal((BATCH, HIDDEN)), jnp.bfloat16)
    masked = jnp.asarray(h.astype(jnp.float32) * weights.masks.state, jnp.bfloat16)
    plain = cell.cell.prepare(params, dtype=jnp.bfloat16)
    carry = jn.LSTMCarry(jnp.zeros((BATCH, HIDDEN)), h)
    expected = cell.cell.project_state(plain, carry._replace(h=masked))
    np.testing.assert_array_equal(cell.project_state(weights, carry), expected)


def test_untied_twice_multiplies_the_masks(x64, key, rng):
    """Through a wrapper in between; the outer one masks the state only."""
    outer, inner = masks_of(key, (3,))[1], masks_of(key, (3,), depth=2)

    def step(t, params, carry, x):
        return gru_step(params, carry, x, inner[0], outer * inner[1])

    twice = jn.VariationalDropout(jn.ln_gru(HIDDEN), rate=RATE, input_rate=INPUT_RATE, tied=False)
    mask_tools.check(jn.VariationalDropout(jn.Zoneout(twice), rate=RATE, tied=False), key, rng, step)


def test_a_rate_is_a_probability():
    with pytest.raises(ValueError, match=r"VariationalDropout: rate must be a number .* got 1.5"):
        jn.VariationalDropout(jn.gru(HIDDEN), rate=1.5)
