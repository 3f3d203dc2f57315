"""Every preset against its paper's equations in NumPy float64, with random numbers in every weight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

pytestmark = pytest.mark.long

STEPS, BATCH, HIDDEN = 4, 3, 4

PRESETS = {
    "elman": (jn.elman(HIDDEN), oracles.elman_step),
    "ln_rnn": (jn.ln_rnn(HIDDEN), oracles.ln_rnn_step),
    "lstm": (jn.lstm(HIDDEN), oracles.lstm_step),
    "ln_lstm": (jn.ln_lstm(HIDDEN), oracles.ln_lstm_step),
    "rms_lstm": (jn.rms_lstm(HIDDEN), oracles.rms_lstm_step),
    "gru": (jn.gru(HIDDEN), oracles.gru_step),
    "gru_renew": (jn.gru(HIDDEN, update_gate="renew"), partial(oracles.gru_step, renew=True)),
    "ln_gru": (jn.ln_gru(HIDDEN), oracles.ln_gru_step),
    "ln_gru_keep": (jn.ln_gru(HIDDEN, update_gate="keep"), partial(oracles.ln_gru_step, renew=False)),
    "rms_gru": (jn.rms_gru(HIDDEN), oracles.rms_gru_step),
}


def run_oracle(step, params, xs, carry):
    """The whole batch at once, step by step; outputs and the last carry."""
    outputs = []
    for x in xs:
        carry, y = step(params, carry, x)
        outputs.append(y)
    return np.stack(outputs), carry


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_its_equations(name, x64, rng):
    cell, step = PRESETS[name]
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    carry = tuple(rng.standard_normal((BATCH, HIDDEN)) for _ in cell.initial_carry(()))
    got = jn.unroll(cell, params, xs, carry=type(cell.initial_carry(()))(*map(jnp.asarray, carry)))
    outputs, last = run_oracle(step, oracles.to_numpy(params), np.asarray(xs), carry)
    np.testing.assert_allclose(got.outputs, outputs, rtol=1e-10, atol=1e-12)
    for entry, expected in zip(got.carry, last, strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-10, atol=1e-12)


def test_ln_lstm_in_float32_stays_close_to_float64(rng):
    cell, step = PRESETS["ln_lstm"]
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    zeros = (np.zeros((BATCH, HIDDEN)),) * 2
    outputs, _ = run_oracle(step, oracles.to_numpy(params), np.asarray(xs, np.float64), zeros)
    np.testing.assert_allclose(jn.unroll(cell, params, xs).outputs, outputs, atol=5e-6)


BN = jn.bn_lstm(HIDDEN, max_steps=3)


def run_bn_oracle(params, xs, real, rows=None):
    """Outputs and the statistics of each step; ``rows`` gives statistics instead, the last for all later steps."""
    carry = (np.zeros((BATCH, HIDDEN)),) * 2
    outputs, measured = [], []
    for t, x in enumerate(xs):
        given = None if rows is None else [jax.tree.map(lambda a: a[min(t, 2)], site) for site in rows]  # noqa: B023
        new, y, used = oracles.bn_lstm_step(params, carry, x, real[t], given)
        carry = tuple(np.where(real[t][:, None], a, b) for a, b in zip(new, carry, strict=True))
        outputs.append(np.where(real[t][:, None], y, 0.0))
        measured.append(used)
    return np.stack(outputs), carry, measured


def sites_of(stats):
    """Statistics of the three sites, in float64."""
    return [m for m in oracles.to_numpy(stats) if m != ()]


def test_bn_lstm_normalizes_each_step_by_its_own_batch(x64, rng):
    params = cases.random_cell_params(BN, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 5, (BATCH,), jnp.float64)
    real = np.arange(5)[:, None] < np.array([5, 2, 4])
    got = jn.unroll(BN, params, xs, where=jnp.asarray(real))
    outputs, (c, h), measured = run_bn_oracle(oracles.to_numpy(params), np.asarray(xs), real)
    np.testing.assert_allclose(got.outputs, outputs, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got.carry.c, c, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got.carry.h, h, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(got.carry.step, [5, 2, 4])
    apart = jn.unroll(jn.bn_lstm(HIDDEN, max_steps=5), params, xs, where=jnp.asarray(real))  # a row for each step
    for site, moments in enumerate(sites_of(apart.moments)):
        for name in ("mean", "var", "count"):
            expected = np.stack([getattr(step[site], name) for step in measured])
            np.testing.assert_allclose(getattr(moments, name), expected, rtol=1e-9, atol=1e-11)


def test_bn_lstm_evaluates_with_a_row_for_each_step_and_the_last_beyond(x64, rng):
    params = cases.random_cell_params(BN, rng, dtype=jnp.float64)
    stats = cases.random_stats(BN.initial_stats(), rng)
    xs = cases.random_inputs(rng, 5, (BATCH,), jnp.float64)
    real = np.ones((5, BATCH), bool)
    got = jn.unroll(BN, params, xs, stats=stats)
    outputs, _, _ = run_bn_oracle(oracles.to_numpy(params), np.asarray(xs), real, sites_of(stats))
    np.testing.assert_allclose(got.outputs, outputs, rtol=1e-9, atol=1e-11)


def test_bn_lstm_fold_moves_running_rows_with_momentum(rng):
    """new = 0.99 old + 0.01 batch without debias; rows beyond max_steps are pooled into the last; biased variance."""
    cell = jn.bn_lstm(HIDDEN, max_steps=3, momentum=0.99, debias=False)
    every = jn.bn_lstm(HIDDEN, max_steps=5)  # a row for each step
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 5, (BATCH,))
    out, apart = jn.unroll(cell, params, xs), jn.unroll(every, params, xs).moments
    folded, debiased = (c.update_running(c.initial_stats(), out.moments) for c in (cell, BN))
    for site in ("input", "recurrent", "cell"):
        m, new, first = oracles.to_numpy(getattr(apart, site)), getattr(folded, site), getattr(debiased, site)
        tail_mean = np.mean(m.mean[2:], axis=0)
        tail_var = np.mean(m.var[2:] + (m.mean[2:] - tail_mean) ** 2, axis=0)
        mean, var = np.stack([*m.mean[:2], tail_mean]), np.stack([*m.var[:2], tail_var])
        np.testing.assert_allclose(new.mean, 0.01 * mean, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(new.var, 0.99 + 0.01 * var, rtol=1e-5)
        np.testing.assert_allclose(first.mean, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(first.var, var, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(new.count, [BATCH, BATCH, 3 * BATCH])
    # A later piece of the same sequences moves the last row only.
    later = jn.unroll(cell, params, xs, carry=out.carry)
    rest = cell.update_running(cell.initial_stats(), later.moments)
    np.testing.assert_array_equal(rest.recurrent.mean[:2], 0.0)
    assert bool(jnp.all(rest.recurrent.mean[2] != 0.0))


def test_population_statistics_of_bn_lstm(x64, rng):
    """Weights frozen, averaged over batches: evaluation on a batch with its own statistics repeats the training run."""
    params = cases.random_cell_params(BN, rng, dtype=jnp.float64)
    batches = [cases.random_inputs(rng, 3, (BATCH,), jnp.float64) for _ in range(2)]
    outs = [jn.unroll(BN, params, xs) for xs in batches]
    same = jn.population([outs[0].moments], ddof=0)
    again = jn.unroll(BN, params, batches[0], stats=same)
    np.testing.assert_allclose(again.outputs, outs[0].outputs, rtol=1e-9, atol=1e-11)
    both = jn.population((out.moments for out in outs), ddof=1)
    first, second = (out.moments.recurrent for out in outs)
    np.testing.assert_allclose(both.recurrent.mean, (first.mean + second.mean) / 2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        both.recurrent.var, BATCH / (BATCH - 1) * (first.var + second.var) / 2, rtol=1e-9, atol=1e-12
    )


def test_normalizer_weights_of_fresh_presets(key):
    """The published starting points, and the number of normalizer weights."""
    ln = jn.ln_lstm(HIDDEN).init(key, 3)
    entries = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(ln.norm)])
    assert len(entries) == 18 * HIDDEN
    assert (entries == 1).sum() == 9 * HIDDEN
    assert (entries == 0).sum() == 9 * HIDDEN
    assert not jnp.any(ln.bias), "the LN-LSTM of the paper has no forget bias"
    bn = BN.init(key, 3)
    for site in (bn.norm.input, bn.norm.recurrent, bn.norm.cell):
        np.testing.assert_allclose(site.scale, 0.1)
    assert bn.norm.input.bias is None
    assert bn.norm.recurrent.bias is None
    np.testing.assert_array_equal(bn.norm.cell.bias, 0.0)
    np.testing.assert_array_equal(bn.bias, np.repeat([0.0, 1.0, 0.0, 0.0], HIDDEN))
    gru = jn.ln_gru(HIDDEN).init(key, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(gru.norm)) == 2 * 6 * HIDDEN
    rnn = jn.ln_rnn(HIDDEN).init(key, 3)
    assert rnn.bias is None
    assert (rnn.norm.input, rnn.norm.recurrent) == ((), ())
    rms = jn.rms_lstm(HIDDEN).init(key, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(rms.norm)) == 9 * HIDDEN


def test_presets_take_every_field_of_their_cell():
    assert jn.ln_lstm(4, epsilon=1e-3).norm.input == jn.LayerNorm(epsilon=1e-3)
    assert jn.ln_lstm(4, forget_bias=1.0).forget_bias == 1.0
    assert jn.ln_gru(4, update_gate="keep").update_gate == "keep"
    assert jn.bn_lstm(4, max_steps=2, scale=0.5, momentum=None).norm.cell.momentum is None
    assert jn.bn_lstm(4, max_steps=2, axis_name="batch").norm.recurrent.axis_name == "batch"
    with pytest.raises(TypeError, match="hidden"):
        jn.ln_lstm(4, hidden=3)
