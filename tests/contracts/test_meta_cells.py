"""Planted faults: the checks of the cells and of the engine must catch them.

A fault is a change of one place in the source text, run as a module of its own; the real modules stay as they are.
"""

import importlib
import inspect
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.cells import oracles
from tests.contracts import cell_checks

pytestmark = pytest.mark.long

SIZE = 3  # of a hidden state that no other test uses with these modules


def planted(module_name, right, wrong, **names):
    """The module with one place of its source changed, and further names replaced."""
    source = inspect.getsource(importlib.import_module(module_name))
    if source.count(right) != 1:  # no AssertionError: that is what a caught fault looks like
        raise LookupError(f"{module_name} has {right!r} {source.count(right)} times")
    module = types.ModuleType("planted")
    exec(compile(source.replace(right, wrong), "planted", "exec"), module.__dict__)
    vars(module).update(names)
    return module


def engine(right, wrong, **names):
    """``unroll`` with a fault in the loop, which both methods share."""
    loop = planted("jaxnorm.engine.loops.scan", right, wrong)
    steps = planted("jaxnorm.engine.loops.at_once", "time-major steps", "time-major steps", scan_steps=loop.scan_steps)
    whole = planted("jaxnorm.engine.unroll", "Notes:", "Notes:", run_at_once=steps.run_at_once, **names)
    return partial(whole.unroll, method="scan")


def chunked(right, wrong, **names):
    """``unroll`` with a fault in the backward pass of the chunked method."""
    backward = planted("jaxnorm.engine.loops.chunked_vjp", right, wrong, **names).backward
    rules = planted("jaxnorm.engine.loops.chunked", "JAX traces", "JAX traces", backward=backward)
    return planted("jaxnorm.engine.unroll", "Notes:", "Notes:", run_chunks=rules.run_chunks).unroll


def lstm(right, wrong, of="lstm"):
    """A cell of a faulty LSTM, or of an LSTM with faulty gates."""
    if of == "lstm":
        return planted("jaxnorm.cells.lstm", right, wrong).LSTM(SIZE, norm=jn.LayerNorm())
    faulty = planted("jaxnorm.cells.preactivation.preactivation", right, wrong)

    class WithFaultyGates(jn.LSTM):
        @property
        def gates(self):
            return faulty.PreActivation(self.sites, self.gate_groups)

    return WithFaultyGates(SIZE, norm=jn.LayerNorm())


def check_oracle(cell, step=oracles.ln_lstm_step):
    """The equations, on one batch."""
    rng = np.random.default_rng(0)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 2, (2,), jnp.float64)
    carry = (np.zeros((2, SIZE)),) * 2
    got = jn.unroll(cell, params, xs)
    for t in range(2):
        carry, y = step(oracles.to_numpy(params), carry, np.asarray(xs[t]))
        np.testing.assert_allclose(got.outputs[t], y, rtol=1e-10)


def test_checks_accept_the_unharmed_source(x64):
    check_oracle(lstm("GATES = 4", "GATES = 4"))
    unroll = engine("new = select(t.where, new, carry)", "new = select(t.where, new, carry)")
    cell_checks.check_padding(jn.lstm(SIZE), unroll)


FAULTS_OF_THE_CELL = {
    "two gates swapped": ("(i, f, g, o), measured", "(f, i, g, o), measured"),
    "bias dropped": ("return add_bias(x, weights.bias),", "return x,", "gates"),
    "normalized c carried": ('self.carried_cell == "raw"', 'self.carried_cell != "raw"'),
    "norm of c left out": ("h = parts.output(o, c_hat)", "h = parts.output(o, c)"),
    "norm of the sum": ("add_bias(t.h_proj, ", "add_bias(t.h_proj + t.x_proj, ", "gates"),
    "forget bias at run time": ("cell_state(i, f, g, ", "cell_state(i, f + 1.0, g, "),
}


@pytest.mark.parametrize("fault", FAULTS_OF_THE_CELL)
def test_a_fault_in_the_lstm_is_caught_by_the_oracle(fault, x64):
    cell = lstm(*FAULTS_OF_THE_CELL[fault])
    with pytest.raises(AssertionError):
        check_oracle(cell)


FAULTS_OF_THE_LOOP = {
    "carry not masked": ("new = select(t.where, new, carry)", "pass", cell_checks.check_padding),
    "outputs not masked": (
        "y = select(t.where, y, jax.tree.map(jnp.zeros_like, y))",
        "pass",
        cell_checks.check_padding,
    ),
    "statistics not masked": (
        "_rows(stats, t.row), t.where, t.key",
        "_rows(stats, t.row), None, t.key",
        cell_checks.check_padding,
    ),
    "reset left out": ("carry = select(t.reset, initial, carry)", "pass", cell_checks.check_reset),
    "reverse left out": ("reverse=reverse, unroll", "reverse=False, unroll", cell_checks.check_reverse_and_layout),
    "input product in the loop": (
        "x_proj_t, x_proj_ahead = x_proj_ahead, x_proj_t\n",
        "x_proj_t, x_proj_ahead = x_proj_ahead + 0.0 * cell.project_state(weights, carry), x_proj_t\n",
        cell_checks.check_program,
    ),
}


@pytest.mark.parametrize("fault", FAULTS_OF_THE_LOOP)
def test_a_fault_in_the_loop_is_caught_by_the_contract(fault, x64):
    right, wrong, check = FAULTS_OF_THE_LOOP[fault]
    # A norm at the cell site puts zeros at masked places by itself, and would hide the second fault.
    cell = jn.lstm(SIZE) if fault == "outputs not masked" else jn.bn_lstm(SIZE, max_steps=2)
    with pytest.raises(AssertionError):
        check(cell, engine(right, wrong))


def test_a_gradient_that_is_left_out_is_caught(rng):
    cell = jn.lstm(SIZE)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 2, (2,))

    def kernel_gradient(unroll, **options):
        return jax.jit(jax.grad(lambda params: unroll(cell, params, xs, **options).outputs.sum()))(params).recurrent

    unroll = chunked("d_weights_inputs, d_weights_state, d_weights_step)", "d_weights_inputs, d_weights_step)")
    expected = kernel_gradient(jn.unroll, method="scan")
    np.testing.assert_allclose(kernel_gradient(jn.unroll), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(kernel_gradient(unroll) - expected).max() > 1e-3


def test_nan_in_padding_that_is_not_taken_out_is_caught(x64):
    right = "xs if steps.where is None else select(steps.where, xs, jnp.zeros_like(xs))"
    loop = planted("jaxnorm.engine.loops.scan", right, "xs")
    names = {"project_inputs": loop.project_inputs, "normalize_inputs": loop.normalize_inputs}
    faulty = chunked("What the forward pass saves", "What the forward pass saves", **names)
    with pytest.raises(AssertionError):
        cell_checks.check_padding(jn.lstm(SIZE), faulty)
