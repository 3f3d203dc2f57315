"""The common mistakes in published LN-LSTM, LN-GRU and BN-LSTM code, one named test each.

The numbers are those of the project's list of traps; traps that concern a normalizer alone are tested with it, here
they are tested inside a cell.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.cells.base import StepInput
from jaxnorm.cells.preactivation.layout import by_gate, gate_slice
from tests import cases
from tests.contracts.cell_checks import assert_close

pytestmark = pytest.mark.long

HIDDEN = 4
LN_LSTM, LN_GRU = jn.ln_lstm(HIDDEN), jn.ln_gru(HIDDEN)


def with_bias(params, **gates):
    """Biases of single gates, by letter."""
    bias = params.bias
    for letter, value in gates.items():
        bias = bias.at[gate_slice("ifgo".index(letter), len(bias) // 4)].set(value)
    return params._replace(bias=bias)


def random_state(rng, batch=3):
    return jn.LSTMCarry(*(jnp.asarray(rng.standard_normal((batch, HIDDEN)), jnp.float32) for _ in range(2)))


@pytest.mark.parametrize(
    "cell", [LN_LSTM, jn.rms_lstm(HIDDEN), jn.bn_lstm(HIDDEN, max_steps=2)], ids=["ln", "rms", "bn"]
)
def test_trap_01_carried_c_is_raw(cell, rng):
    """With the forget gate open and the input gate shut c stays what it was; a normalized c would not."""
    params = with_bias(cases.random_cell_params(cell, rng), f=50.0, i=-50.0)
    carry = random_state(rng)
    out = jn.unroll(cell, params, cases.random_inputs(rng, 10), carry=carry)
    np.testing.assert_allclose(out.carry.c, carry.c, atol=1e-6)


def test_trap_02_input_and_recurrent_products_are_normalized_apart(x64, rng):
    """The size of the input kernel alone does not matter."""
    cell = jn.ln_lstm(HIDDEN, epsilon=1e-14)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 2, dtype=jnp.float64)
    large = params._replace(kernel=100 * params.kernel)
    np.testing.assert_allclose(jn.unroll(cell, large, xs).outputs, jn.unroll(cell, params, xs).outputs, atol=1e-10)


def gate_changed(cell, params, state, changed, gate):
    """Whether one gate of the recurrent pre-activations moves when the columns of another are scaled.

    Differences are read where all else is equal: from c (LSTM) or h (GRU) after a step with all other gates fixed.
    """
    scaled = params._replace(recurrent=params.recurrent.at[:, changed].multiply(10.0))

    def normalized(p):
        weights = cell.prepare(p)
        side, _ = cell.gates.recurrent_side(weights, StepInput((), cell.project_state(weights, state)))
        return by_gate(side, sum(cell.gate_groups))

    return not np.allclose(normalized(params)[..., gate, :], normalized(scaled)[..., gate, :], atol=1e-3)


def test_trap_03_statistics_are_joint_over_the_gates_of_the_paper(rng):
    lstm = cases.random_cell_params(LN_LSTM, rng)
    assert gate_changed(LN_LSTM, lstm, random_state(rng), changed=0, gate=1), "i and f share statistics"
    assert gate_changed(LN_LSTM, lstm, random_state(rng), changed=3, gate=2), "o and g share statistics"
    alone = jn.ln_lstm(HIDDEN, gate_groups=(1, 1, 1, 1))
    assert not gate_changed(alone, lstm, random_state(rng), changed=0, gate=1)
    gru = cases.random_cell_params(LN_GRU, rng)
    state = jn.GRUCarry(random_state(rng).h)
    assert gate_changed(LN_GRU, gru, state, changed=0, gate=1), "r and z share statistics"
    assert not gate_changed(LN_GRU, gru, state, changed=0, gate=2), "the candidate has its own"
    assert not gate_changed(LN_GRU, gru, state, changed=2, gate=1)


def test_trap_04_epsilon_is_inside_the_root_and_constant_products_are_finite(rng):
    """At the site of c: epsilon 1e-5 under the root; a zero kernel, whose products are constant, gives beta."""
    params = cases.random_cell_params(LN_LSTM, rng)
    c = jnp.tile(jnp.array([1.0, -1.0]) * 1e-3, (3, HIDDEN // 2))
    # Gates shut but for the output gate: h = tanh(LN(c)).
    params = with_bias(params, i=-50.0, f=50.0, o=50.0)
    params = params._replace(norm=params.norm._replace(cell=jn.Affine(jnp.ones(HIDDEN), jnp.zeros(HIDDEN))))
    out = jn.unroll(LN_LSTM, params, cases.random_inputs(rng, 1), carry=jn.LSTMCarry(c, jnp.zeros_like(c)))
    expected = np.sqrt(1e-6 / (1e-6 + 1e-5))
    assert abs(expected - 0.3015) < 1e-4
    np.testing.assert_allclose(np.arctanh(np.abs(out.outputs[0])), expected, rtol=1e-3)
    dead = params._replace(kernel=jnp.zeros_like(params.kernel), recurrent=jnp.zeros_like(params.recurrent))
    xs = cases.random_inputs(rng, 3)
    value, gradient = jax.jit(jax.value_and_grad(lambda p: jn.unroll(LN_LSTM, p, xs).outputs.sum()))(dead)
    chex.assert_tree_all_finite((value, gradient))


def test_trap_05_the_variance_is_biased(rng):
    """With H = 2 the normalized c is +-1, not +-0.7071."""
    cell = jn.ln_lstm(2, epsilon=1e-10)
    params = with_bias(cases.random_cell_params(cell, rng), i=-50.0, f=50.0, o=50.0)
    params = params._replace(norm=params.norm._replace(cell=jn.Affine(jnp.ones(2), jnp.zeros(2))))
    carry = jn.LSTMCarry(jnp.array([[-3.0, 5.0]]), jnp.zeros((1, 2)))
    out = jn.unroll(cell, params, cases.random_inputs(rng, 1, (1,)), carry=carry)
    np.testing.assert_allclose(out.outputs[0, 0], np.tanh([-1.0, 1.0]), rtol=1e-5)


def test_trap_06_number_and_initial_values_of_the_norm_weights(key):
    params = LN_LSTM.init(key, 3)
    entries = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params.norm)])
    assert len(entries) == 18 * HIDDEN
    assert (entries == 1).sum() == (entries == 0).sum() == 9 * HIDDEN
    for site in (params.norm.input, params.norm.recurrent, params.norm.cell):
        assert np.all(site.scale == 1), "alpha multiplies and begins at one, whatever the supplement's text says"
        assert np.all(site.bias == 0)
    weights = LN_LSTM.prepare(params)
    state = jn.LSTMCarry(jnp.zeros((1, HIDDEN)), jnp.array([[0.3, -0.2, 0.9, 0.1]]))
    y, _ = LN_LSTM.sites.recurrent(jn.Affine(params.norm.recurrent.scale, None), LN_LSTM.project_state(weights, state))
    np.testing.assert_allclose([y.mean(), y.var()], [0.0, 1.0], atol=1e-3)


def gru_gates(params, letter, value, recurrent=0.0):
    """Pins a gate of a GRU: its normalized parts to zero, its bias to a value."""
    gate = gate_slice("rzn".index(letter), HIDDEN)
    norm = jax.tree.map(lambda leaf: leaf.at[gate].set(0.0), params.norm)
    return params._replace(
        norm=norm, bias=params.bias.at[gate].set(value), recurrent_bias=params.recurrent_bias.at[gate].set(recurrent)
    )


def test_trap_07_reset_acts_on_the_normalized_product_and_z_renews(rng):
    params = cases.random_cell_params(LN_GRU, rng)
    xs = cases.random_inputs(rng, 1)
    state = jn.GRUCarry(jnp.asarray(rng.standard_normal((3, HIDDEN)), jnp.float32))
    renewing = gru_gates(params, "z", 50.0)  # h' is the candidate
    whole = jn.unroll(LN_GRU, gru_gates(renewing, "r", 50.0), xs, carry=state).outputs
    half = jn.unroll(LN_GRU, gru_gates(renewing, "r", 0.0), xs, carry=state).outputs
    # Were r inside LN(U (r h)), the norm would cancel one half for all units.
    assert float(jnp.abs(whole - half).max()) > 1e-2
    kept = jn.unroll(LN_GRU, gru_gates(params, "z", -50.0), xs, carry=state)
    np.testing.assert_allclose(kept.carry.h, state.h, atol=1e-6)


def test_trap_08_bn_lstm_has_a_row_for_each_step_small_scales_and_a_rule_beyond(rng, key):
    rows = 4
    cell = jn.bn_lstm(HIDDEN, max_steps=rows)
    fresh = cell.init(key, 3).norm
    for site in (fresh.input, fresh.recurrent, fresh.cell):
        np.testing.assert_allclose(site.scale, 0.1)
    params = cases.random_cell_params(cell, rng)
    drift = jnp.arange(rows, dtype=jnp.float32)[:, None, None]
    xs = cases.random_inputs(rng, rows, (8,)) * (1.0 + drift) + drift
    out = jn.unroll(cell, params, xs)
    stats = jn.population([out.moments], ddof=0)
    # In evaluation the normalized recurrent product has mean zero over the batch at every step.
    again = jn.unroll(cell, params, xs, stats=stats)
    np.testing.assert_allclose(again.outputs, out.outputs, rtol=1e-3, atol=1e-4)
    means = stats.recurrent.mean[1:]
    assert not np.allclose(means[0], means[1], atol=1e-2), "the steps differ, so one pooled row would be wrong"
    # Step max_steps + 7 takes the last row.
    first = jn.unroll(cell, params, xs[:1], stats=stats)
    late = jn.CountedCarry(first.carry.carry, jnp.full((8,), rows + 7, jnp.int32))
    last = jn.CountedCarry(first.carry.carry, jnp.full((8,), rows - 1, jnp.int32))
    beyond = jn.unroll(cell, params, xs[-1:], carry=late, stats=stats)
    np.testing.assert_array_equal(beyond.outputs, jn.unroll(cell, params, xs[-1:], carry=last, stats=stats).outputs)
    early = jn.unroll(cell, params, xs[-1:], carry=first.carry, stats=stats)
    assert not np.allclose(beyond.outputs, early.outputs, atol=1e-3)


@pytest.mark.parametrize(
    "cell", [LN_LSTM, LN_GRU, jn.bn_lstm(HIDDEN, max_steps=2)], ids=["ln_lstm", "ln_gru", "bn_lstm"]
)
def test_trap_09_padding_reaches_nothing(cell, rng):
    """Three more rows and five more steps of 1e6, masked: outputs, carry and updated statistics stay."""
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 3, (2,))
    alone = jn.unroll(cell, params, xs)
    padded = jnp.full((8, 5, cases.IN_FEATURES), 1e6).at[:3, :2].set(xs)
    out = jn.unroll(cell, params, padded, where=jnp.zeros((8, 5), bool).at[:3, :2].set(True))
    np.testing.assert_allclose(out.outputs[:3, :2], alone.outputs, atol=1e-5)
    assert_close(jax.tree.map(lambda leaf: leaf[:2], out.carry), alone.carry, 1e-5)
    stats = cell.initial_stats()
    assert_close(cell.update_running(stats, out.moments), cell.update_running(stats, alone.moments), 1e-5)


def test_trap_10_training_ignores_running_statistics_and_folding_moves_them_once(rng):
    cell = jn.bn_lstm(HIDDEN, max_steps=1, momentum=0.9, debias=False)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 1, (6,))
    out = jn.unroll(cell, params, xs)
    product = np.asarray(xs[0]) @ np.asarray(params.kernel).reshape(cases.IN_FEATURES, -1)
    folded = cell.update_running(cell.initial_stats(), out.moments)
    np.testing.assert_allclose(folded.input.mean.ravel(), 0.1 * product.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(folded.input.var.ravel(), 0.9 + 0.1 * product.var(0), rtol=1e-4)
    # unroll has no way to read running statistics while it measures: what it returns is the same before and after.
    np.testing.assert_array_equal(jn.unroll(cell, params, xs).outputs, out.outputs)


def test_trap_a_documented_forget_biases(key):
    """0 in the LN-LSTM of Ba et al., 1 in the BN-LSTM of Cooijmans et al. and in the plain LSTM."""
    for cell, value in ((LN_LSTM, 0.0), (jn.rms_lstm(4), 0.0), (jn.bn_lstm(4, max_steps=2), 1.0), (jn.lstm(4), 1.0)):
        i, f, g, o = by_gate(cell.init(key, 3).bias, 4)
        np.testing.assert_array_equal(f, value)
        np.testing.assert_array_equal(jnp.stack([i, g, o]), 0.0)


def test_trap_b_identity_for_the_candidate_only(key):
    """The published "identity" initialization of the BN-LSTM is the identity in the block g alone."""
    orthogonal, eye = jn.initializers.orthogonal, jn.initializers.eye
    cell = jn.bn_lstm(HIDDEN, max_steps=2, recurrent_init=(orthogonal, orthogonal, eye, orthogonal))
    recurrent = cell.init(key, 3).recurrent
    np.testing.assert_array_equal(recurrent[:, 2], np.eye(HIDDEN))
    assert not any(np.allclose(recurrent[:, gate], np.eye(HIDDEN)) for gate in (0, 1, 3))


@pytest.mark.parametrize("cell", [LN_LSTM, LN_GRU, jn.ln_rnn(HIDDEN)], ids=["ln_lstm", "ln_gru", "ln_rnn"])
def test_trap_f_layer_norm_does_not_see_the_other_rows(cell, rng):
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 3, (4,))
    whole = jn.unroll(cell, params, xs).outputs
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(jn.unroll(cell, params, xs[:, order]).outputs, whole[:, order])
    np.testing.assert_allclose(jn.unroll(cell, params, xs[:, 1:2]).outputs, whole[:, 1:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "cell", [LN_LSTM, LN_GRU, jn.bn_lstm(HIDDEN, max_steps=2)], ids=["ln_lstm", "ln_gru", "bn_lstm"]
)
def test_trap_g_a_scan_is_single_steps_with_the_state_handed_on(cell, rng):
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 4)
    carry = jax.tree.map(
        lambda a: a if a.dtype == jnp.int32 else jnp.asarray(rng.standard_normal(a.shape), a.dtype),
        cell.initial_carry((3,)),
    )
    whole = jn.unroll(cell, params, xs, carry=carry)
    outputs = []
    for x in xs:
        out = jn.unroll(cell, params, x[None], carry=carry)
        carry = out.carry
        outputs.append(out.outputs[0])
    np.testing.assert_allclose(jnp.stack(outputs), whole.outputs, rtol=1e-4, atol=1e-5)
    assert_close(carry, whole.carry, 1e-4)
