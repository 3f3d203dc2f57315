"""The method over all steps at once: the contract of the engine, long sequences, and what it refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts import cell_checks

pytestmark = pytest.mark.long

HIDDEN = 4
parallel = partial(jn.unroll, method="associative")


@pytest.mark.parametrize("name", ["min_gru", "min_lstm_batch_norm"])
def test_it_keeps_the_contract(name, x64):
    (case,) = (case for case in cases.CELLS if case.name == name)
    cell_checks.check_method(case.cell, parallel, batch_statistics=case.batch_statistics)
    cell_checks.check_lengths_reversed(case.cell, parallel)
    cell_checks.check_short(case.cell, parallel)


def test_it_has_no_loop(rng):
    cell = jn.zoo.MinGRU(HIDDEN)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 8)
    program = jax.make_jaxpr(lambda p, x: parallel(cell, p, x))(params, xs)
    names = [equation.primitive.name for equation in cell_checks.equations(program.jaxpr)]
    assert "scan" not in names
    assert "while" not in names
    assert names.count("dot_general") == 1


def test_forward_mode_is_the_transpose_of_reverse_mode(x64, rng):
    cell = jn.zoo.MinLSTM(HIDDEN)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs, tangent = (cases.random_inputs(rng, 4, (2,), jnp.float64) for _ in range(2))

    @jax.jit
    def both(xs, tangent):
        def run(x):
            return parallel(cell, params, x).outputs

        ys, forward = jax.jvp(run, (xs,), (tangent,))
        (backward,) = jax.vjp(run, xs)[1](jnp.sin(ys))
        return jnp.vdot(jnp.sin(ys), forward), jnp.vdot(backward, tangent)

    np.testing.assert_allclose(*both(xs, tangent), rtol=1e-12)


def test_states_in_bfloat16_may_be_kept_wide(rng):
    """With h in float32 the methods agree to its rounding, whatever the products are computed in."""
    cell = jn.zoo.MinGRU(HIDDEN, dtype=jnp.bfloat16, carry_dtype=jnp.float32)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 8)
    one, other = parallel(cell, params, xs), jn.unroll(cell, params, xs)
    assert one.outputs.dtype == jnp.bfloat16
    assert one.carry.h.dtype == jnp.float32
    np.testing.assert_allclose(one.carry.h, other.carry.h, rtol=1e-5, atol=1e-6)


def test_options_of_the_flax_modules_and_of_the_callers_reach_it(rng):
    cells = (jn.zoo.MinGRU(HIDDEN), jn.zoo.MinLSTM(HIDDEN))
    params = [cases.random_cell_params(cell, rng) for cell in cells]
    xs, lengths = cases.random_inputs(rng, 4), jnp.array([4, 2, 0])
    expected = jn.bidirectional(cells, params, xs, lengths=lengths)
    got = jn.bidirectional(cells, params, xs, lengths=lengths, method="associative")
    cell_checks.assert_close(got, expected, 1e-5)


def test_what_it_refuses(rng):
    params, xs = cases.random_cell_params(jn.lstm(HIDDEN), rng), cases.random_inputs(rng)
    with pytest.raises(TypeError, match=r"method='associative' needs a cell that is linear in its carry, .*got LSTM"):
        parallel(jn.lstm(HIDDEN), params, xs)
    params = cases.random_cell_params(jn.zoo.MinGRU(HIDDEN), rng)
    with pytest.raises(ValueError, match="cannot stop gradients between them, got truncate=2"):
        parallel(jn.zoo.MinGRU(HIDDEN), params, xs, truncate=2)
    with pytest.raises(ValueError, match="chunk and save belong to the chunked method"):
        parallel(jn.zoo.MinGRU(HIDDEN), params, xs, chunk=2)
