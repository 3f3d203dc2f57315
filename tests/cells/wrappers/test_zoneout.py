"""Zoneout against the equations, with the same masks; expectations; and the traps of the published code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.cells.wrappers import mask_tools
from tests.cells.wrappers.mask_tools import BATCH, HIDDEN, STEPS, drawn, step_keys

pytestmark = pytest.mark.long


def zoned(new, old, mask):
    return mask * new + (1 - mask) * old


def test_zoneout_is_the_equation_of_the_paper(x64, key, rng):
    """The new h is made of a c that was not zoned, and the output is the zoned h."""
    keys = [jax.random.split(k) for k in step_keys(key)]
    masks = [(drawn(k[1], 0.5, (BATCH, HIDDEN)), drawn(k[0], 0.3, (BATCH, HIDDEN))) for k in keys]

    def step(t, params, carry, x):
        (c, h), _ = oracles.ln_lstm_step(params, carry, x)
        h = zoned(h, carry[1], masks[t][1])
        return (zoned(c, carry[0], masks[t][0]), h), h

    mask_tools.check(jn.Zoneout(jn.ln_lstm(HIDDEN), rate=0.3, cell_rate=0.5), key, rng, step)


def test_at_test_time_it_is_the_expectation(x64, rng):
    def step(t, params, carry, x):
        (c, h), _ = oracles.ln_lstm_step(params, carry, x)
        h = zoned(h, carry[1], 0.7)
        return (zoned(c, carry[0], 0.5), h), h

    cell = jn.deterministic(jn.Zoneout(jn.ln_lstm(HIDDEN), rate=0.3, cell_rate=0.5))
    mask_tools.check(cell, None, rng, step)


def test_mean_of_a_step_over_masks_is_that_of_the_test(rng):
    cell = jn.Zoneout(jn.ln_lstm(HIDDEN), rate=0.3, cell_rate=0.5)
    params, xs, carry = mask_tools.example(cell, rng, jnp.float32)

    @jax.jit
    @jax.vmap
    def run(key):
        return jn.unroll(cell, params, xs[:1], carry=carry, key=key)

    many = run(jax.random.split(jax.random.key(0), 3000))
    once = jn.unroll(jn.deterministic(cell), params, xs[:1], carry=carry)
    jax.tree.map(mask_tools.check_mean, many, once)
    # Units, examples and entries have masks of their own, and the steps too.
    kept = np.stack([np.asarray(a) == np.asarray(b) for a, b in zip(many.carry, carry, strict=True)], axis=-1)
    kept = kept.reshape(3000, -1).astype(float)
    assert np.abs(np.corrcoef(kept.T) - np.eye(kept.shape[1])).max() < 0.12


def test_of_rate_one_keeps_the_old_state_and_of_rate_zero_the_new_one(key, rng):
    inner = jn.ln_gru(HIDDEN)
    params, xs, carry = mask_tools.example(inner, rng, jnp.float32)
    kept = jn.unroll(jn.Zoneout(inner, rate=1.0), params, xs, carry=carry, key=key)
    np.testing.assert_array_equal(kept.outputs, np.broadcast_to(carry.h, (STEPS, BATCH, HIDDEN)))
    plain = jn.unroll(jn.Zoneout(inner), params, xs, carry=carry)
    np.testing.assert_array_equal(plain.outputs, jn.unroll(inner, params, xs, carry=carry).outputs)


def test_batch_norm_comes_before_zoneout(rng, key):
    """The moments are those of the cell itself on the state that was zoned before; the count of steps goes on."""
    inner = jn.bn_lstm(HIDDEN, max_steps=STEPS)
    cell = jn.Zoneout(inner, rate=0.4, cell_rate=0.4)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, STEPS, (BATCH,))
    whole = jn.unroll(cell, params, xs, key=key)
    before = jn.unroll(cell, params, xs[: STEPS - 1], key=key)  # the same keys, since keys do not depend on T
    last = jn.unroll(inner, params, xs[STEPS - 1 :], carry=before.carry)
    np.testing.assert_allclose(whole.moments.recurrent.var[-1], last.moments.recurrent.var[-1], rtol=1e-5)
    np.testing.assert_array_equal(whole.carry.step, [STEPS] * BATCH)
    changed = np.asarray(whole.carry.h != before.carry.h)
    assert changed.any()
    np.testing.assert_allclose(whole.carry.h, np.where(changed, last.carry.h, before.carry.h), rtol=1e-5, atol=1e-6)


def test_entries_of_the_carry_besides_h_are_needed_for_their_rate():
    with pytest.raises(ValueError, match=r"Zoneout: cell_rate=0.5 .* GRU has none\. Leave it out"):
        jn.Zoneout(jn.gru(HIDDEN), cell_rate=0.5)
    with pytest.raises(ValueError, match=r"Zoneout: rate must be a number in \[0.0, 1.0\], got 1.5"):
        jn.Zoneout(jn.gru(HIDDEN), rate=1.5)
