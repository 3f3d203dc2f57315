"""Activations and gradients through time, against a loop that runs the cell a step at a time."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import analysis
from jaxnorm.analysis.recording import Recording
from tests import cases
from tests.tools.marks import mostly_heavy

STEPS, BATCH = 6, 3
LEVELS = (0.0, 10.0, 50.0, 85.0, 100.0)
CELLS = {case.name: case for case in cases.CELLS}
some_cells = pytest.mark.parametrize("name", ["elman", "ln_lstm", "ln_gru", "bn_lstm"])


def loss_of(weights):
    """A loss that looks at every output and at the last carry, in different ways."""

    def loss(out):
        return jnp.sum(jnp.sin(out.outputs) * weights) + jnp.sum(out.carry.h**3)

    return loss


def steps_by_hand(cell, params, xs, where, shifts=None):
    """Each step a call of its own; ``shifts[t]`` is added to h, and to the output, after step t."""
    carry, outputs, states, measured = None, [], [], []
    for t, x in enumerate(xs):
        mask = None if where is None else where[t : t + 1]
        out = jn.unroll(cell, params, x[None], carry=carry, where=mask)
        carry, y = out.carry, out.outputs[0]
        if shifts is not None:
            inner = carry.carry if isinstance(carry, jn.CountedCarry) else carry
            inner = inner._replace(h=inner.h + shifts[t])
            carry = jn.CountedCarry(inner, carry.step) if isinstance(carry, jn.CountedCarry) else inner
            y = y + (shifts[t] if where is None else jnp.where(where[t][:, None], shifts[t], 0.0))
        outputs.append(y)
        states.append(carry.carry if isinstance(carry, jn.CountedCarry) else carry)
        measured.append(out.moments)
    return outputs, states, carry


def setting(name, rng, masked):
    cell = CELLS[name].cell
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    where = None
    if masked:
        where = rng.random((STEPS, BATCH)) < 0.7
        where[2] = False  # a step without a real example
        xs = jnp.asarray(np.where(where[..., None], xs, np.nan))
        where = jnp.asarray(where)
    weights = jnp.asarray(rng.standard_normal((STEPS, BATCH, cell.hidden_features)), jnp.float32)
    return cell, params, xs, where, weights


@some_cells
@pytest.mark.parametrize("masked", mostly_heavy([True, False]), ids=["masked", "whole"])
def test_percentiles_and_gradients_are_those_of_a_slow_loop(name, rng, masked):
    cell, params, xs, where, weights = setting(name, rng, masked)
    loss = loss_of(weights)
    found = jax.jit(
        lambda params, xs, where: analysis.activation_statistics(
            cell, params, xs, loss=loss, levels=LEVELS, where=where
        )
    )(params, xs, where)
    outputs, states, _ = jax.jit(lambda p, xs, w: steps_by_hand(cell, p, xs, w))(params, xs, where)
    real = np.ones((STEPS, BATCH), bool) if where is None else np.asarray(where)
    np.testing.assert_array_equal(found.real, real.sum(1))
    for t in range(STEPS):
        for got, values in zip(
            jax.tree.leaves((found.outputs, found.carry)), jax.tree.leaves((outputs[t], states[t])), strict=True
        ):
            kept = np.asarray(values, np.float64)[real[t]]
            want = np.percentile(kept, LEVELS) if kept.size else np.zeros(len(LEVELS))
            np.testing.assert_allclose(got[t], want, rtol=1e-4, atol=1e-5)

    def shifted(shifts):
        ys, _, carry = steps_by_hand(cell, params, xs, where, shifts)
        return loss(jn.Unrolled(jnp.stack(ys), carry, ()))

    gradient = jax.jit(jax.grad(shifted))(jnp.zeros_like(weights))
    norms = np.linalg.norm(gradient, axis=-1) * real  # by hand, a masked step's shift reaches what follows
    np.testing.assert_allclose(found.gradient_norms, norms, rtol=2e-4, atol=1e-5)
    assert (np.asarray(found.gradient_norms)[real] > 1e-3).all()


def test_gradients_of_an_elman_network_by_the_chain_rule(rng):
    cell = jn.elman(cases.HIDDEN)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, STEPS, (BATCH,))
    outputs = np.asarray(jn.unroll(cell, params, xs).outputs, np.float64)
    # L = sum of all outputs: dL/dh_t = 1 + U (1 - h_{t+1}^2) dL/dh_{t+1}.
    want, after = [], np.zeros_like(outputs[0])
    for t in reversed(range(STEPS)):
        after = (
            1.0 + ((1 - outputs[t + 1] ** 2) * after) @ np.asarray(params.recurrent).T if t < STEPS - 1 else 1.0 + after
        )
        want.insert(0, np.linalg.norm(after, axis=-1))
    found = analysis.activation_statistics(cell, params, xs, loss=lambda out: jnp.sum(out.outputs))
    np.testing.assert_allclose(found.gradient_norms, want, rtol=1e-4)


def test_lengths_direction_layout_resets_and_no_loss(rng):
    cell, params, xs, _, _ = setting("ln_lstm", rng, False)
    lengths = jnp.array([6, 0, 4])
    ragged = jnp.where((jnp.arange(STEPS)[:, None] < lengths[None])[..., None], xs, jnp.nan)
    reset = jnp.asarray(rng.random((STEPS, BATCH)) < 0.3)
    options = {"lengths": lengths, "reverse": True}
    batch_first = analysis.activation_statistics(
        cell,
        params,
        jnp.swapaxes(ragged, 0, 1),
        time_axis=1,
        reset=reset.T,
        loss=lambda out: jnp.sum(out.outputs),
        **options,
    )
    outputs = np.asarray(jn.unroll(cell, params, ragged, reset=reset, **options).outputs)
    for t in range(STEPS):
        kept = outputs[t][t < np.asarray(lengths)]
        np.testing.assert_allclose(batch_first.outputs[t], np.percentile(kept, (15, 50, 85)), rtol=1e-4, atol=1e-6)
    assert batch_first.real.tolist() == [2, 2, 2, 2, 1, 1]
    norms = np.asarray(batch_first.gradient_norms)
    assert norms.shape == (STEPS, BATCH)
    assert np.isfinite(norms).all()
    assert not norms[:, 1].any()
    assert not norms[4:, 2].any()
    time_first = analysis.activation_statistics(cell, params, ragged, reset=reset, **options)
    assert time_first.gradient_norms == ()
    np.testing.assert_allclose(time_first.carry.c, batch_first.carry.c, rtol=1e-5)


@pytest.mark.heavy
def test_no_batch_axes_running_statistics_keys_and_half_precision(rng):
    cell, params, xs, _, _ = setting("bn_lstm", rng, False)
    stats = cases.random_stats(cell.initial_stats(), rng)
    found = analysis.activation_statistics(cell, params, xs[:, 0], stats=stats, loss=lambda out: jnp.sum(out.carry.h))
    assert found.gradient_norms.shape == (STEPS,)
    assert found.carry.c.shape == (STEPS, 3)
    half = jn.ln_lstm(4, dtype=jnp.bfloat16, initial_noise=0.1)
    params = cases.random_cell_params(half, rng)
    key = jax.random.key(3)
    found = analysis.activation_statistics(
        half, params, xs.astype(jnp.bfloat16), key=key, loss=lambda out: jnp.sum(out.outputs.astype(jnp.float32))
    )
    outputs = jn.unroll(half, params, xs.astype(jnp.bfloat16), key=key).outputs
    assert all(leaf.dtype == jnp.float32 for leaf in (found.outputs, found.carry.c, found.gradient_norms))
    np.testing.assert_allclose(found.outputs[-1], np.percentile(np.float64(outputs[-1]), (15, 50, 85)), rtol=1e-2)


def test_percentiles_of_ragged_rows(rng):
    x = rng.standard_normal((2, 5, 4)).astype(np.float32)
    where = rng.random(x.shape) < 0.6
    where[:, 3] = False
    hostile = jnp.asarray(np.where(where, x, np.nan))
    got = analysis.percentiles(hostile, LEVELS, axis=(0, 2), where=jnp.asarray(where))
    for feature in range(5):
        kept = x[:, feature][where[:, feature]]
        np.testing.assert_allclose(got[feature], np.percentile(kept, LEVELS) if kept.size else np.zeros(5), rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(analysis.percentiles(x, LEVELS, where=jnp.asarray(where))))(hostile)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~where].any()
    assert analysis.percentiles(jnp.zeros((3, 0)), axis=1).tolist() == [[0.0] * 3] * 3
    np.testing.assert_array_equal(analysis.percentiles(jnp.array([1.0, jnp.inf]), (0.0, 100.0)), [1.0, np.inf])


def test_errors(rng):
    cell, params, xs, _, _ = setting("ln_lstm", rng, False)
    run = functools.partial(analysis.activation_statistics, cell, params)
    with pytest.raises(ValueError, match=r"percentiles: levels must be a number in \[0.0, 100.0\], got 101"):
        run(xs, levels=(101.0,))
    with pytest.raises(ValueError, match=r"unroll: lengths must have shape"):
        run(xs, lengths=jnp.ones(7, jnp.int32))
    # A cell that puts out more than its h.
    wider = Recording(cell, jnp.dtype(jnp.float32), jnp.dtype(jnp.float32), (cases.IN_FEATURES,), 1, perturbs=False)
    with pytest.raises(ValueError, match=r"an entry h like the output, of shape \(3, 12\), got \(3, 4\)"):
        analysis.activation_statistics(wider, params, xs, loss=lambda out: jnp.sum(out.outputs))
    assert analysis.activation_statistics(wider, params, xs).outputs.shape == (STEPS, 3)


def test_plot(rng, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra 'examples'")
    cell, params, xs, where, weights = setting("ln_lstm", rng, True)
    found = analysis.activation_statistics(cell, params, xs, loss=loss_of(weights), where=where)
    figure = analysis.plot_activation_statistics(found, title="ln_lstm")
    assert [axes.get_ylabel() for axes in figure.axes] == ["outputs", "carry.c", "carry.h", "norm of dL/dh"]
    median = figure.axes[1].lines[1]
    shown = [t for t in range(STEPS) if found.real[t]]
    assert 2 not in shown
    np.testing.assert_array_equal(median.get_xdata(), shown)
    np.testing.assert_allclose(median.get_ydata(), np.asarray(found.carry.c)[shown, 1], rtol=1e-6)
    mean = np.asarray(found.gradient_norms).sum(1)[shown] / np.asarray(found.real)[shown]
    np.testing.assert_allclose(figure.axes[3].lines[0].get_ydata(), mean, rtol=1e-5)
    figure.savefig(tmp_path / "activations.png")
    with pytest.raises(ValueError, match=r"levels must name 3 percentiles, got \(50.0,\)"):
        analysis.plot_activation_statistics(found, levels=(50.0,))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"matplotlib is not installed. .* pip install 'jaxnorm\[examples\]'"):
        analysis.plot_activation_statistics(found)
