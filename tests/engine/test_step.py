"""``step`` against ``unroll``: the same values and gradients, in any loop of the user."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.cells.wrappers.randomness import key_pair
from tests import cases
from tests.tools.annotations import no_annotation_checks

H, STEPS = cases.HIDDEN, 3
BN = jn.bn_lstm(H, max_steps=3)
CELLS = {  # the cell, the shape of the batch, whether there are running statistics, and masks
    "ln_lstm, learned carry": (jn.ln_lstm(H, learn_carry=True), (2,), False, True),
    "gru, no batch": (jn.gru(H), (), False, False),
    "bn_lstm, running statistics": (BN, (2, 2), True, True),
    "bn_lstm, statistics of the batch": (BN, (3,), False, False),
    "min_gru": (jn.zoo.MinGRU(H), (), False, True),
}


def draw(cell, batch, rng, *, stats):
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    carry = jax.tree.map(
        lambda entry: jnp.asarray(rng.standard_normal(entry.shape)) if entry.dtype == jnp.float64 else entry,
        cell.initial_carry(batch, params=params),
    )
    running = cases.random_stats(cell.initial_stats(jnp.float64), rng) if stats else None
    where, reset = (jnp.asarray(rng.random((STEPS, *batch)) < share) for share in (0.7, 0.3))
    return params, cases.random_inputs(rng, STEPS, batch, jnp.float64), carry, running, where, reset


@pytest.mark.parametrize("name", CELLS)
def test_a_loop_of_steps_is_unroll(name, rng, x64):
    cell, batch, with_stats, masked = CELLS[name]
    params, xs, carry, stats, where, reset = draw(cell, batch, rng, stats=with_stats)
    masks = {"where": where, "reset": reset} if masked else {}

    def loop(params, xs, carry, stats):
        ys = []
        for t in range(STEPS):
            at = {mask: every[t] for mask, every in masks.items()}
            carry, y = jn.step(cell, params, carry, xs[t], stats=stats, **at)
            ys.append(y)
        return carry, jnp.stack(ys)

    def whole(params, xs, carry, stats):
        out = jn.unroll(cell, params, xs, carry=carry, stats=stats, **masks)
        return out.carry, out.outputs

    def loss(run):
        def value(arrays, count):
            params, xs, carry, stats = arrays
            carry, ys = run(params, xs, carry if count is None else jn.CountedCarry(carry, count), stats)
            state = carry if count is None else carry.carry
            return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves((state, ys))), (carry, ys)

        return jax.jit(jax.value_and_grad(value, has_aux=True))

    state, count = (carry.carry, carry.step) if isinstance(carry, jn.CountedCarry) else (carry, None)
    arrays = (params, xs, state, stats)
    got, expected = (loss(run)(arrays, count) for run in (loop, whole))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, expected)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected[1][1])) > 1e-3


def test_without_a_carry_it_starts_from_the_initial_one(rng):
    cell = jn.ln_lstm(H, learn_carry=True, initial_noise=0.5)
    params, x = cases.random_cell_params(cell, rng), jnp.ones((2, cases.IN_FEATURES))
    key = jax.random.key(3)
    carry, y = jn.step(cell, params, None, x, key=key)
    out = jn.unroll(cell, params, x[None], key=key)
    np.testing.assert_allclose(y, out.outputs[0], rtol=1e-6)
    assert type(carry) is jn.LSTMCarry
    np.testing.assert_allclose(carry.c, out.carry.c, rtol=1e-6)


SCANS = {
    "initial carry": (jn.ln_lstm(H), lambda cell, params: cell.initial_carry((2,), params=params)),
    "tuple": (jn.ln_lstm(H), lambda cell, params: (jnp.zeros((2, H)), jnp.zeros((2, H)))),
    "array": (jn.gru(H), lambda cell, params: jnp.zeros((2, H))),
    "wide": (jn.gru(H, dtype=jnp.bfloat16), lambda cell, params: jnp.zeros((2, H))),
    "narrow": (jn.lstm(H), lambda cell, params: [jnp.zeros((2, H), jnp.bfloat16), jnp.zeros((2, H), jnp.float16)]),
    "counted": (BN, lambda cell, params: cell.initial_carry((2,), params=params)),
    "short count": (
        BN,
        lambda cell, params: jn.CountedCarry((jnp.zeros((2, H)), jnp.zeros((2, H))), jnp.zeros(2, jnp.int16)),
    ),
}


@pytest.mark.parametrize("name", SCANS)
def test_in_a_scan_of_the_user_the_carry_keeps_form_and_dtype(name, rng):
    cell, start = SCANS[name]
    params, stats = cases.random_cell_params(cell, rng), cell.initial_stats()
    xs, begin = cases.random_inputs(rng, STEPS, (2,)), start(cell, params)
    given = stats if jax.tree.leaves(stats) else None

    def run(xs):
        return jax.lax.scan(lambda carry, x: jn.step(cell, params, carry, x, stats=given), begin, xs)

    carry, ys = jax.jit(run)(xs)
    assert jax.tree.map(lambda a: a.dtype, carry) == jax.tree.map(lambda a: a.dtype, begin)
    expected = jn.unroll(cell, params, xs, stats=given)
    close = {"rtol": 0.05, "atol": 0.05} if name in ("wide", "narrow") else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(ys.astype(jnp.float32), expected.outputs.astype(jnp.float32), **close)
    if isinstance(carry, jn.CountedCarry):
        np.testing.assert_array_equal(carry.step, [STEPS, STEPS])


def test_under_vmap_each_example_is_alone(rng):
    cell = jn.ln_gru(H)
    params, x = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 1, (3,))[0]
    carry = jnp.asarray(rng.standard_normal((3, H)), jnp.float32)
    apart = jax.vmap(lambda carry, x: jn.step(cell, params, carry, x))(carry, x)
    together = jn.step(cell, params, carry, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), apart, together)


def test_masks_of_a_sequence_have_a_key_of_their_own(rng):
    """With the same key at each step, the masks of the whole sequence are those of ``unroll``."""
    cell = jn.VariationalDropout(jn.lstm(H), rate=0.4, input_rate=0.4)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, STEPS, (3,))
    key = jax.random.key(5)
    same = functools.partial(jn.step, cell, params, sequence_key=jax.random.split(key, 3)[2])
    carry, ys = jax.lax.scan(lambda carry, x: same(carry, x), cell.initial_carry((3,)), xs)
    out = jn.unroll(cell, params, xs, key=key)
    np.testing.assert_allclose(ys, out.outputs, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry.c, out.carry.c, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ys, jn.unroll(cell, params, xs, key=jax.random.key(6)).outputs)


def test_masks_of_steps_change_where_those_of_the_sequence_stay(rng):
    """Zoneout keeps the old value of a unit, or takes that of the inner cell with the masks of the sequence."""
    inner = jn.VariationalDropout(jn.elman(8), rate=0.4, input_rate=0.4)
    cell = jn.Zoneout(inner, rate=0.5)
    params = cases.random_cell_params(cell, rng)
    xs, sequence = cases.random_inputs(rng, STEPS, (6,)), jax.random.key(1)
    h, kept = jnp.zeros((6, 8)), []
    for t in range(STEPS):
        new, y = jn.step(cell, params, h, xs[t], key=jax.random.key(10 + t), sequence_key=sequence)
        candidate, _ = jn.step(inner, params, h, xs[t], sequence_key=key_pair(sequence)[1])
        keeps = np.isclose(new, h, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(np.where(keeps, candidate, new), candidate, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(new, y)
        kept.append(keeps)
        h = new
    assert all((a != b).any() for a, b in itertools.pairwise(kept))
    assert 0.3 < np.mean(kept) < 0.7
    with pytest.raises(ValueError, match=r"Zoneout: rate=0.5 needs randomness, but key is None"):
        jn.step(cell, params, h, xs[0], sequence_key=sequence)


def test_one_key_is_that_of_unroll(rng):
    cell = jn.Zoneout(jn.VariationalDropout(jn.elman(8), rate=0.4), rate=0.5)
    params, x = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 1, (6,))
    carry, key = jn.ElmanCarry(jnp.ones((6, 8))), jax.random.key(2)
    _, y = jn.step(cell, params, carry, x[0], key=key)
    np.testing.assert_allclose(y, jn.unroll(cell, params, x, carry=carry, key=key).outputs[0], rtol=1e-6)


X, P = jnp.ones((2, cases.IN_FEATURES)), jn.lstm(H).init(jax.random.key(0), cases.IN_FEATURES)
Z = jnp.zeros((2, H))
ERRORS = {
    "inputs": ({"x": jnp.ones((2, 3), complex)}, TypeError, r"step: x must be real, got complex64"),
    "no features": ({"x": jnp.ones(())}, ValueError, r"step: x must have at least .*got shape \(\)"),
    "weights": ({"params": P._asdict()}, TypeError, r"step: params must be LSTMParams for LSTM, got a dict"),
    "weights of another": ({"params": (1.0,)}, TypeError, r"step: params must be LSTMParams"),
    "carry": ({"carry": Z}, TypeError, r"step: carry must have the structure .*got an array"),
    "size of carry": ({"carry": (Z, Z[:1])}, ValueError, r"step: carry\[1\] must have shape .* got \(1, 4\)"),
    "where": ({"where": jnp.ones((1, 2), bool)}, ValueError, r"step: where must have shape x\.shape\[:-1\] = \(2,\)"),
    "reset": ({"reset": jnp.ones(2)}, TypeError, r"step: reset must be a boolean array"),
    "statistics": ({"stats": 3.0}, TypeError, r"step: stats must be the CellNorms of LSTM"),
    "sequence key": ({"sequence_key": 3}, TypeError, r"step: sequence_key must be a key"),
    "count": ({"cell": BN, "carry": (Z, Z)}, TypeError, r"step: carry must say how many steps each example has run"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_argument(name):
    options, kind, message = ERRORS[name]
    given = {"cell": jn.lstm(H), "params": P, "carry": None, "x": X} | options
    if given["cell"] is BN:
        given["params"] = BN.init(jax.random.key(0), cases.IN_FEATURES)
    with no_annotation_checks(), pytest.raises(kind, match=message):
        jn.step(**given)
