"""Recurrent dropout without memory loss against the equations, with the same masks, and its expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.cells import oracles
from tests.cells.wrappers import mask_tools
from tests.cells.wrappers.mask_tools import BATCH, HIDDEN, STEPS, drawn, sequence_key, step_keys

pytestmark = pytest.mark.long
RATE = 0.4


def lstm_step(params, carry, x, mask):
    """Semeniuta et al.: c = f c + d(i g); the LN-LSTM around it."""
    c, h = carry
    gates = (
        oracles.layer_norm(h @ oracles.flat(params.recurrent), *params.norm.recurrent)
        + oracles.layer_norm(x @ oracles.flat(params.kernel), *params.norm.input)
        + params.bias
    )
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = oracles.sigmoid(f) * c + mask * (oracles.sigmoid(i) * np.tanh(g))
    h = oracles.sigmoid(o) * np.tanh(oracles.layer_norm(c, *params.norm.cell))
    return (c, h), h


def gru_step(params, carry, x, mask, keep):
    """Semeniuta et al.: h = (1 - z) h + z d(hhat), with z and 1 - z exchanged where z keeps."""
    (h,) = carry
    r_x, z_x, n_x = np.split(x @ oracles.flat(params.kernel) + params.bias, 3, axis=-1)
    r_h, z_h, n_h = np.split(h @ oracles.flat(params.recurrent) + params.recurrent_bias, 3, axis=-1)
    z = oracles.sigmoid(z_x + z_h)
    candidate = mask * np.tanh(n_x + oracles.sigmoid(r_x + r_h) * n_h)
    h = z * h + (1 - z) * candidate if keep else (1 - z) * h + z * candidate
    return (h,), h


def masks_of(key, per):
    shape = (BATCH, HIDDEN)
    if key is None:
        return [1 - RATE] * STEPS
    if per == "step":
        return [drawn(k, RATE, shape) for k in step_keys(key)]
    return [drawn(sequence_key(key), RATE, shape)] * STEPS


@pytest.mark.parametrize("per", ["step", "sequence", "test"])
def test_it_is_the_equation_of_the_paper(per, x64, key, rng):
    key = None if per == "test" else key
    masks = masks_of(key, per)
    options = {"rate": RATE, "per": "step" if per == "test" else per, "deterministic": per == "test"}

    def of_lstm(t, params, carry, x):
        return lstm_step(params, carry, x, masks[t])

    mask_tools.check(jn.RecurrentDropout(jn.ln_lstm(HIDDEN), **options), key, rng, of_lstm)
    keep = per == "step"
    inner = jn.gru(HIDDEN, update_gate="keep" if keep else "renew")

    def of_gru(t, params, carry, x):
        return gru_step(params, carry, x, masks[t], keep)

    mask_tools.check(jn.RecurrentDropout(inner, **options), key, rng, of_gru)


def test_mean_of_a_step_over_masks_is_that_of_the_test(rng):
    """Of c, which is linear in the mask; training does not scale up."""
    cell = jn.RecurrentDropout(jn.ln_lstm(HIDDEN), rate=RATE)
    params, xs, carry = mask_tools.example(cell, rng, jnp.float32)
    run = jax.jit(jax.vmap(lambda key: jn.unroll(cell, params, xs[:1], carry=carry, key=key).carry.c))
    many = run(jax.random.split(jax.random.key(0), 3000))
    mask_tools.check_mean(many, jn.unroll(jn.deterministic(cell), params, xs[:1], carry=carry).carry.c)


def test_no_memory_is_lost(key, rng):
    """With everything dropped and open forget gates c stays as it is: what is remembered is never masked."""
    cell = jn.RecurrentDropout(jn.lstm(HIDDEN), rate=1.0)
    params, xs, carry = mask_tools.example(cell, rng, jnp.float32)
    params = params._replace(bias=params.bias.at[HIDDEN : 2 * HIDDEN].set(50.0))
    np.testing.assert_allclose(jn.unroll(cell, params, xs, carry=carry, key=key).carry.c, carry.c, rtol=1e-6)


@pytest.mark.parametrize("update_gate", ["keep", "renew"])
def test_two_of_them_multiply_their_masks(update_gate, x64, rng):
    inner = jn.gru(HIDDEN, update_gate=update_gate)
    twice = jn.RecurrentDropout(jn.RecurrentDropout(inner, rate=0.5), rate=0.2, per="sequence")

    def step(t, params, carry, x):
        return gru_step(params, carry, x, 0.8 * 0.5, update_gate == "keep")

    mask_tools.check(jn.deterministic(twice), None, rng, step)


def test_a_cell_without_a_candidate_is_refused():
    with pytest.raises(ValueError, match=r"RecurrentDropout: Elman has no candidate"):
        jn.RecurrentDropout(jn.Zoneout(jn.elman(HIDDEN)), rate=0.1)
