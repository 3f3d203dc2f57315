"""Defects found in the cells and drivers of other libraries; each test would fail there and must pass here.

The numbers are the rows of the project's survey of peers.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts import cell_checks

pytestmark = pytest.mark.long

HIDDEN = 4
LN_LSTM = jn.ln_lstm(HIDDEN)


@pytest.mark.parametrize(
    "cell", [LN_LSTM, jn.ln_gru(HIDDEN), jn.bn_lstm(HIDDEN, max_steps=2)], ids=["ln_lstm", "ln_gru", "bn_lstm"]
)
def test_defect_06_nan_in_padding_reaches_no_gradient(cell, rng):
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 4, (3,))
    lengths = jnp.array([4, 2, 0])
    real = jnp.arange(4)[:, None] < lengths[None]

    @jax.jit
    def loss(params, xs):
        return jnp.sum(jnp.where(real[..., None], jn.unroll(cell, params, xs, lengths=lengths).outputs, 0.0))

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(params, jnp.where(real[..., None], xs, jnp.nan))
    chex.assert_tree_all_finite((value, gradients))
    assert not np.any(np.where(real[..., None], 0.0, gradients[1]))


@pytest.mark.parametrize("reverse", [False, True])
def test_defect_15_length_zero_returns_the_carry_as_it_came(reverse, rng):
    params = cases.random_cell_params(LN_LSTM, rng)
    xs = cases.random_inputs(rng, 3, (2,))
    carry = jn.LSTMCarry(*(jnp.asarray(rng.standard_normal((2, HIDDEN)), jnp.float32) for _ in range(2)))
    out = jn.unroll(LN_LSTM, params, xs, carry=carry, lengths=jnp.array([0, 3]), reverse=reverse)
    np.testing.assert_array_equal(out.carry.c[0], carry.c[0])
    np.testing.assert_array_equal(out.carry.h[0], carry.h[0])
    np.testing.assert_array_equal(out.outputs[:, 0], 0.0)
    assert not np.allclose(out.carry.h[1], carry.h[1])
    fresh = jn.unroll(LN_LSTM, params, xs, lengths=jnp.array([0, 3]), reverse=reverse)
    np.testing.assert_array_equal(fresh.carry.h[0], 0.0)


def test_defect_16_lengths_with_two_batch_axes_without_a_stack_of_carries(rng):
    params = cases.random_cell_params(LN_LSTM, rng)
    xs = cases.random_inputs(rng, 3, (2, 2))
    lengths = jnp.array([[3, 1], [0, 2]])
    out = jn.unroll(LN_LSTM, params, xs, lengths=lengths)
    flat = jn.unroll(LN_LSTM, params, xs.reshape(3, 4, -1), lengths=lengths.ravel())
    np.testing.assert_allclose(out.outputs.reshape(3, 4, -1), flat.outputs, atol=1e-6)
    np.testing.assert_allclose(out.carry.c.reshape(4, -1), flat.carry.c, atol=1e-6)
    # The last carry comes out of the loop as its carry: no array with a time axis but inputs, products and outputs.
    program = jax.make_jaxpr(lambda xs: jn.unroll(LN_LSTM, params, xs, lengths=lengths))(xs)
    (scan,) = [e for e in cell_checks.equations(program.jaxpr) if e.primitive.name == "scan"]
    assert [v.aval.shape for v in scan.outvars if v.aval.shape[0] == 3] == [(3, 2, 2, HIDDEN)]


@pytest.mark.parametrize("make", [jn.lstm, jn.gru, jn.elman, jn.ln_lstm, jn.ln_gru], ids=lambda make: make.__name__)
def test_defect_17_outputs_have_the_dtype_that_was_asked_for(make, rng):
    cell = make(HIDDEN, dtype=jnp.bfloat16)
    params = cases.random_cell_params(cell, rng)
    assert params.kernel.dtype == jnp.float32
    out = jax.eval_shape(lambda: jn.unroll(cell, params, cases.random_inputs(rng, 2)))
    assert out.outputs.dtype == jnp.bfloat16
    assert out.carry.h.dtype == jnp.bfloat16
    assert getattr(out.carry, "c", None) is None or out.carry.c.dtype == jnp.float32


def test_defect_17_bfloat16_stays_close_to_float32(rng):
    params = cases.random_cell_params(LN_LSTM, rng)
    xs = cases.random_inputs(rng, 4)
    exact = jn.unroll(LN_LSTM, params, xs).outputs
    rough = jn.unroll(jn.ln_lstm(HIDDEN, dtype=jnp.bfloat16), params, xs).outputs
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(rough, np.float32), exact, atol=0.06)


@pytest.mark.parametrize("make", [jn.lstm, jn.gru, jn.elman], ids=lambda make: make.__name__)
def test_defect_18_bfloat16_weights_can_be_initialized(make, key):
    """The orthogonal draw is made in float32 and rounded: the same matrix as with float32 weights."""
    params = make(HIDDEN, param_dtype=jnp.bfloat16).init(key, 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    exact = make(HIDDEN).init(key, 3)
    np.testing.assert_array_equal(params.recurrent, exact.recurrent.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    ("param_dtype", "carry_dtype", "xs_dtype"),
    [("bfloat16", "bfloat16", "float32"), ("float32", "bfloat16", "float32"), ("float32", "float32", "bfloat16")],
)
@pytest.mark.parametrize("make", [jn.ln_lstm, jn.gru, jn.elman], ids=lambda make: make.__name__)
def test_defect_19_mixed_dtypes_work(make, param_dtype, carry_dtype, xs_dtype, rng):
    cell = make(HIDDEN, param_dtype=param_dtype)
    params = cases.random_cell_params(cell, rng)
    carry = jax.tree.map(lambda a: a.astype(carry_dtype), cell.initial_carry((3,)))
    xs = cases.random_inputs(rng, 2).astype(xs_dtype)
    out = jax.eval_shape(lambda: jn.unroll(cell, params, xs, carry=carry))
    assert out.outputs.dtype == jnp.float32  # what weights and inputs promote to, each time
    assert {leaf.dtype for leaf in jax.tree.leaves(out.carry)} == {jnp.dtype(jnp.float32)}


def test_defect_21_batch_norm_works_in_the_loop_with_statistics_for_each_step(rng):
    cell = jn.bn_lstm(HIDDEN, max_steps=3, momentum=0.0)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, 3, (6,)) + jnp.arange(3.0)[:, None, None]
    out = jn.unroll(cell, params, xs)
    stats = cell.update_running(cell.initial_stats(), out.moments)
    for name in ("input", "recurrent", "cell"):
        site, moments = getattr(stats, name), getattr(out.moments, name)
        np.testing.assert_allclose(site.mean, moments.mean, atol=1e-6)
        assert not np.allclose(site.mean[1], site.mean[2], atol=1e-3), "each step has statistics of its own"
    np.testing.assert_allclose(jn.unroll(cell, params, xs, stats=stats).outputs, out.outputs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "cell",
    [jn.lstm(HIDDEN), LN_LSTM, jn.ln_gru(HIDDEN), jn.bn_lstm(HIDDEN, max_steps=2), jn.elman(HIDDEN)],
    ids=["lstm", "ln_lstm", "ln_gru", "bn_lstm", "elman"],
)
def test_defect_22_the_input_product_is_made_outside_the_loop(cell, x64):
    cell_checks.check_program(cell)


def test_defect_24_shape_errors_name_the_argument(rng):
    params = cases.random_cell_params(LN_LSTM, rng)
    with pytest.raises(ValueError, match=r"xs has 7 features, but params\.kernel takes I = 3"):
        jn.unroll(LN_LSTM, params, jnp.zeros((2, 5, 7)))
    carry = LN_LSTM.initial_carry((4,))
    with pytest.raises(ValueError, match=r"carry\.c must have shape \(\*B, H\) = \(5, 4\), got \(4, 4\)"):
        jn.unroll(LN_LSTM, params, jnp.zeros((2, 5, 3)), carry=carry)


@pytest.mark.parametrize("several", [False, True], ids=["one", "vmapped"])
def test_orthogonal_draws_are_factorized_one_by_one(several, key):
    """Batched factorizations block threads of XLA's pool; two in one program stood still for ever on two cores."""
    cell = jn.bn_lstm(HIDDEN, max_steps=2)

    def init(key):
        return cell.init(key, HIDDEN).recurrent

    keys = jax.random.split(key, 3) if several else key
    program = jax.make_jaxpr(jax.vmap(init) if several else init)(keys)
    found = [e for e in cell_checks.equations(program.jaxpr) if e.primitive.name in ("qr", "geqrf")]
    assert found
    assert {e.invars[0].aval.ndim for e in found} == {2}
