"""``unroll`` against a slow loop that runs every row and every step alone: masks, lengths, resets, orders, layouts.

Hypothesis draws the masks; the shapes come from a short list, since each one is a program to compile.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

pytestmark = pytest.mark.long

CELLS = {
    "ln_lstm": (jn.ln_lstm(cases.HIDDEN, learn_carry=True), oracles.ln_lstm_step),
    "gru": (jn.gru(cases.HIDDEN, learn_carry=True), oracles.gru_step),
    "elman": (jn.elman(cases.HIDDEN, learn_carry=True), oracles.elman_step),
}

ALL = ("lengths", "where", "reset")
# cell, T, batch shape, what is given, reverse, time_axis
LAYOUTS = [
    ("ln_lstm", 6, (2,), ALL, False, 0),
    ("ln_lstm", 6, (2,), ALL, True, 1),
    ("ln_lstm", 4, (2, 2), ("lengths", "reset"), True, 0),
    ("ln_lstm", 5, (), ALL, True, 0),
    ("gru", 5, (2, 2), ALL, False, -2),
    ("gru", 6, (3,), ("where", "reset"), True, 0),
    ("gru", 1, (2,), ALL, True, 0),
    ("elman", 6, (3,), ("lengths",), True, 1),
    ("elman", 0, (2,), ALL, True, 0),
    ("elman", 4, (), ("where",), False, 0),
]


def draw_inputs(data, cell_name, steps, batch):
    """Random weights, time-major inputs and carry; numbers need no shrinking, so a seed makes them."""
    cell, step = CELLS[cell_name]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = rng.standard_normal((steps, *batch, cases.IN_FEATURES))
    carry = tuple(rng.standard_normal((*batch, cases.HIDDEN)) for _ in params.carry)
    weights = oracles.to_numpy(params)
    return cell, params, xs, carry, lambda state, x: step(weights, state, x)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_unroll_equals_every_row_alone(layout, x64):
    cell_name, steps, batch, given_masks, reverse, time_axis = layout

    @given(data=st.data())
    def check(data):
        cell, params, xs, carry, step = draw_inputs(data, cell_name, steps, batch)
        masks = {
            "lengths": data.draw(arrays(np.int32, batch, elements=st.integers(0, steps + 1)), label="lengths"),
            "where": data.draw(arrays(bool, (steps, *batch)), label="where"),
            "reset": data.draw(arrays(bool, (steps, *batch)), label="reset"),
        }
        options = {name: masks[name] for name in given_masks}
        if "where" in options:
            xs = np.where(options["where"][..., None], xs, np.nan)
        outputs, last = oracles.run_rows(
            step, xs, carry, oracles.to_numpy(tuple(params.carry)), reverse=reverse, **options
        )
        mask_axis = time_axis if time_axis >= 0 else time_axis + 1
        moved = {k: v if k == "lengths" else np.moveaxis(v, 0, mask_axis) for k, v in options.items()}
        got = jn.unroll(
            cell,
            params,
            jnp.asarray(np.moveaxis(xs, 0, time_axis)),
            carry=type(params.carry)(*map(jnp.asarray, carry)),
            reverse=reverse,
            time_axis=time_axis,
            **jax.tree.map(jnp.asarray, moved),
        )
        np.testing.assert_allclose(got.outputs, np.moveaxis(outputs, 0, time_axis), rtol=1e-9, atol=1e-11)
        for entry, expected in zip(got.carry, last, strict=True):
            np.testing.assert_allclose(entry, expected, rtol=1e-9, atol=1e-11)

    check()


@pytest.mark.parametrize("cell_name", ["ln_lstm", "gru"])
def test_any_split_with_the_carry_handed_on(cell_name, x64):
    @given(data=st.data())
    def check(data):
        steps, batch = 4, (2,)
        cell, params, xs, carry, step = draw_inputs(data, cell_name, steps, batch)
        cut = data.draw(st.sampled_from([1, 3]), label="cut")
        where = data.draw(arrays(bool, (steps, *batch)), label="where")
        reset = data.draw(arrays(bool, (steps, *batch)), label="reset")
        outputs, last = oracles.run_rows(
            step, xs, carry, oracles.to_numpy(tuple(params.carry)), where=where, reset=reset
        )
        state = type(params.carry)(*map(jnp.asarray, carry))
        pieces = []
        for part in (slice(0, cut), slice(cut, steps)):
            out = jn.unroll(
                cell,
                params,
                jnp.asarray(xs[part]),
                carry=state,
                where=jnp.asarray(where[part]),
                reset=jnp.asarray(reset[part]),
            )
            state = out.carry
            pieces.append(out.outputs)
        np.testing.assert_allclose(np.concatenate(pieces), outputs, rtol=1e-9, atol=1e-11)
        for entry, expected in zip(state, last, strict=True):
            np.testing.assert_allclose(entry, expected, rtol=1e-9, atol=1e-11)

    check()


BN = jn.bn_lstm(cases.HIDDEN, max_steps=3)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_of_statistics_follow_each_example(reverse, x64):
    """With masks, resets and a count handed on, every example takes the rows by its own age."""

    @given(data=st.data())
    def check(data):
        steps, batch = 5, (2,)
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
        params = cases.random_cell_params(BN, rng, dtype=jnp.float64)
        stats = cases.random_stats(BN.initial_stats(), rng)
        xs = rng.standard_normal((steps, *batch, cases.IN_FEATURES))
        where = data.draw(arrays(bool, (steps, *batch)), label="where")
        reset = data.draw(arrays(bool, (steps, *batch)), label="reset")
        begun = data.draw(arrays(np.int32, batch, elements=st.integers(0, 2)), label="begun")
        weights = oracles.to_numpy(params)
        tables = [
            jn.Moments(*(oracles.flat(leaf) if leaf.ndim == 3 else leaf for leaf in site))
            for site in oracles.to_numpy(stats)
            if site != ()
        ]

        def step(state, x):
            *state, age = state
            row = min(int(age[0, 0]), 2)
            used = [jn.Moments(*(leaf[row] for leaf in site)) for site in tables]
            state, y, _ = oracles.bn_lstm_step(weights, state, x, statistics=used)
            return (*state, age + 1), y

        zeros = np.zeros((2, cases.HIDDEN))
        ages = np.broadcast_to(begun[:, None], zeros.shape)
        outputs, (c, h, age) = oracles.run_rows(
            step, xs, (zeros, zeros, ages), (zeros[0],) * 3, where=where, reset=reset, reverse=reverse
        )
        carry = jn.CountedCarry(jn.LSTMCarry(jnp.asarray(zeros), jnp.asarray(zeros)), jnp.asarray(begun))
        got = jn.unroll(
            BN,
            params,
            jnp.asarray(xs),
            carry=carry,
            where=jnp.asarray(where),
            reset=jnp.asarray(reset),
            stats=stats,
            reverse=reverse,
        )
        np.testing.assert_allclose(got.outputs, outputs, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(got.carry.c, c, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(got.carry.h, h, rtol=1e-8, atol=1e-10)
        np.testing.assert_array_equal(got.carry.step, age[:, 0])

    check()
