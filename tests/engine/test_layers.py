"""``stack`` and ``bidirectional`` are what they say: calls of ``unroll``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts.cell_checks import assert_close

pytestmark = pytest.mark.long

HIDDEN, STEPS = 4, 5
LENGTHS = jnp.array([5, 3])
# Sequences begin at 0 and at 3 in the first row, at 0 and 2 in the second.
STARTS = jnp.zeros((STEPS, 2), bool).at[0].set(True).at[3, 0].set(True).at[2, 1].set(True)


def two_cells(rng, second_inputs):
    cells = (jn.ln_lstm(HIDDEN), jn.ln_gru(HIDDEN))
    params = tuple(
        cases.random_cell_params(cell, rng, size)
        for cell, size in zip(cells, (cases.IN_FEATURES, second_inputs), strict=True)
    )
    return cells, params


def test_stack_is_one_unroll_upon_the_other(rng):
    cells, params = two_cells(rng, HIDDEN)
    xs = cases.random_inputs(rng, STEPS, (2,))
    carry = tuple(
        jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), cell.initial_carry((2,)))
        for cell in cells
    )
    got = jn.stack(cells, params, xs, carry=carry, lengths=LENGTHS)
    first = jn.unroll(cells[0], params[0], xs, carry=carry[0], lengths=LENGTHS)
    second = jn.unroll(cells[1], params[1], first.outputs, carry=carry[1], lengths=LENGTHS)
    assert_close(got, jn.Unrolled(second.outputs, (first.carry, second.carry), (first.moments, second.moments)), 1e-6)


def test_stack_hands_statistics_and_keys_to_each(rng, key):
    cells = (jn.bn_lstm(HIDDEN, max_steps=2, initial_noise=0.1),) * 2
    params = [cases.random_cell_params(cell, rng, size) for cell, size in zip(cells, (3, HIDDEN), strict=True)]
    stats = [cases.random_stats(cell.initial_stats(), rng) for cell in cells]
    xs = cases.random_inputs(rng, 2, (2,))
    got = jn.stack(cells, params, xs, stats=stats, key=key)
    keys = jax.random.split(key, 2)
    first = jn.unroll(cells[0], params[0], xs, stats=stats[0], key=keys[0])
    second = jn.unroll(cells[1], params[1], first.outputs, stats=stats[1], key=keys[1])
    np.testing.assert_allclose(got.outputs, second.outputs, atol=1e-6)


@pytest.mark.parametrize("time_axis", [0, 1])
def test_bidirectional_is_two_unrolls_with_lengths_and_packed_sequences(time_axis, rng):
    cells, params = two_cells(rng, cases.IN_FEATURES)
    xs = cases.random_inputs(rng, STEPS, (2,))
    # In the other direction a sequence begins at its last step, the one before the next start.
    ends = jnp.zeros_like(STARTS).at[2, 0].set(True).at[1, 1].set(True)
    got = jn.bidirectional(
        cells,
        params,
        jnp.moveaxis(xs, 0, time_axis),
        lengths=LENGTHS,
        reset=jnp.moveaxis(STARTS, 0, time_axis),
        time_axis=time_axis,
    )
    there = jn.unroll(cells[0], params[0], xs, lengths=LENGTHS, reset=STARTS)
    back = jn.unroll(cells[1], params[1], xs, lengths=LENGTHS, reset=ends, reverse=True)
    outputs = jnp.moveaxis(jnp.concatenate([there.outputs, back.outputs], axis=-1), 0, time_axis)
    expected = jn.Unrolled(outputs, jn.Directions(there.carry, back.carry), jn.Directions(there.moments, back.moments))
    assert_close(got, expected, 1e-6)


def test_packed_sequences_equal_separate_ones_in_both_directions(rng):
    cells, params = two_cells(rng, cases.IN_FEATURES)
    xs = cases.random_inputs(rng, STEPS, (1,))
    starts = STARTS[:, :1]
    packed = jn.bidirectional(cells, params, xs, reset=starts)
    first = jn.bidirectional(cells, params, xs[:3])
    second = jn.bidirectional(cells, params, xs[3:])
    np.testing.assert_allclose(packed.outputs, jnp.concatenate([first.outputs, second.outputs]), atol=1e-6)
    assert_close(packed.carry.forward, second.carry.forward, 1e-6)
    assert_close(packed.carry.backward, first.carry.backward, 1e-6)


def test_bidirectional_merges_as_asked(rng):
    cells, params = two_cells(rng, cases.IN_FEATURES)
    xs = cases.random_inputs(rng, 2, (2,))
    beside = jn.bidirectional(cells, params, xs).outputs
    summed = jn.bidirectional(cells, params, xs, merge=jnp.add).outputs
    np.testing.assert_allclose(summed, beside[..., :HIDDEN] + beside[..., HIDDEN:], atol=1e-6)


def test_errors_name_the_argument(rng):
    cells, params = two_cells(rng, HIDDEN)
    xs = jnp.zeros((2, 1, cases.IN_FEATURES))
    with pytest.raises(ValueError, match=r"stack: cells is empty\. Pass at least one"):
        jn.stack((), (), xs)
    with pytest.raises(ValueError, match=r"stack: params has 1 entries, expected one for each of the 2 cells"):
        jn.stack(cells, params[:1], xs)
    with pytest.raises(ValueError, match=r"stack: carry has 1 entries, expected one for each of the 2 cells"):
        jn.stack(cells, params, xs, carry=(None,))
    with pytest.raises(ValueError, match=r"stack: stats has 3 entries"):
        jn.stack(cells, params, xs, stats=(None,) * 3)
    with pytest.raises(ValueError, match=r"bidirectional: cells has 1 entries, expected one for each of the 2"):
        jn.bidirectional(cells[:1], params, xs)
    with pytest.raises(ValueError, match=r"bidirectional: carry has 3 entries"):
        jn.bidirectional(cells, params, xs, carry=(None,) * 3)
    with pytest.raises(TypeError, match=r"bidirectional: reverse is not an option here"):
        jn.bidirectional(cells, params, xs, reverse=True)
