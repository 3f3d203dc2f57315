"""What each step leaves, its carry and what masked steps put out, against a loop over ``step`` in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl
from tests import cases
from tests.cells import oracles

H, STEPS = cases.HIDDEN, 5
BN = jn.bn_lstm(H, max_steps=3)
ALL = ("lengths", "where", "reset")
CHUNKED = [{"chunk": 2}, {"chunk": 2, "save": "chunks"}, {}, {"method": "scan"}]
LINEAR = [{"method": "associative"}, {"chunk": 3}]
# cell, shape of the batch, masks, reverse, time axis, statistics, the options to compare
ROWS = {
    "ln_lstm, reversed": (jn.ln_lstm(H, learn_carry=True), (3,), ALL, True, 1, False, CHUNKED),
    "bn_lstm, counted": (BN, (3,), ALL, False, 0, True, CHUNKED[:1] + CHUNKED[3:]),
    "bn_lstm, counted, reversed": (BN, (2, 2), ("lengths", "reset"), True, 2, True, CHUNKED[2:3]),
    "gru, no batch, no masks": (jn.gru(H), (), (), True, 0, False, CHUNKED[:1] + CHUNKED[3:]),
    "elman, where": (jn.elman(H), (3,), ("where",), False, 0, False, CHUNKED[1:2]),
    "min_gru": (jn.zoo.MinGRU(H, learn_carry=True), (3,), ALL, False, 0, False, LINEAR),
    "min_lstm, reversed": (jn.zoo.MinLSTM(H), (3,), ALL, True, 1, False, LINEAR),
}


def draw(cell, batch, masks, rng, *, stats):
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    carry = jax.tree.map(
        lambda entry: jnp.asarray(rng.standard_normal(entry.shape)) if entry.dtype == jnp.float64 else entry + 1,
        cell.initial_carry(batch, params=params),
    )
    drawn = {
        "lengths": jnp.asarray(rng.permutation([STEPS - 2, STEPS, 1, 0])[: int(np.prod(batch))].reshape(batch)),
        "where": jnp.asarray(rng.random((STEPS, *batch)) < 0.6),
        "reset": jnp.asarray(rng.random((STEPS, *batch)) < 0.3),
    }
    running = cases.random_stats(cell.initial_stats(jnp.float64), rng) if stats else None
    xs = cases.random_inputs(rng, STEPS, batch, jnp.float64)
    return params, xs, carry, running, {name: drawn[name] for name in masks}


def by_steps(cell, params, xs, carry, stats, masks, *, reverse):
    """Time first: (the last carry, what comes out with "hold", the carry of every step)."""
    batch = xs.shape[1:-1]
    real, reset = (
        masks.get("where", jnp.ones((STEPS, *batch), bool)),
        masks.get("reset", jnp.zeros((STEPS, *batch), bool)),
    )
    if "lengths" in masks:
        within = jnp.stack([t < masks["lengths"] for t in range(STEPS)])
        real, reset = real & within, reset & within
    outputs, carries, held = [None] * STEPS, [None] * STEPS, jnp.zeros((*batch, cell.out_features))
    for t in reversed(range(STEPS)) if reverse else range(STEPS):
        carry, y = jn.step(cell, params, carry, xs[t], stats=stats, where=real[t], reset=reset[t])
        held = jnp.where(reset[t][..., None], 0.0, held)
        held = jnp.where(real[t][..., None], y, held)
        outputs[t], carries[t] = held, carry
    return carry, jnp.stack(outputs), jax.tree.map(lambda *entries: jnp.stack(entries), *carries)


def graded(run, weights):
    """Values, and gradients of a sum with random weights of all that comes out."""

    def loss(arrays, count):
        params, xs, state, stats = arrays
        results = run(params, xs, state if count is None else jn.CountedCarry(state, count), stats)
        floats = [leaf for leaf in jax.tree.leaves(results) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum(jnp.sum(jnp.sin(leaf) * w) for leaf, w in zip(floats, weights(floats), strict=True)), results

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize(("name", "options"), [(name, o) for name, row in ROWS.items() for o in row[-1]], ids=str)
def test_every_step_is_that_of_a_loop(name, options, rng, x64):
    cell, batch, masks, reverse, axis, with_stats, _ = ROWS[name]
    params, xs, carry, stats, masks = draw(cell, batch, masks, rng, stats=with_stats)

    def weights(leaves):
        draw = np.random.default_rng(1)
        return [jnp.asarray(draw.standard_normal(leaf.shape)) for leaf in leaves]

    def unrolled(params, xs, carry, stats):
        moved = {k: v if k == "lengths" else jnp.moveaxis(v, 0, axis) for k, v in masks.items()}
        out = jn.unroll(
            cell, params, jnp.moveaxis(xs, 0, axis), carry=carry, stats=stats, reverse=reverse, time_axis=axis,
            masked_outputs="hold", return_carries=True, **moved, **options,
        )  # fmt: skip
        return out.carry, *jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0), (out.outputs, out.carries))

    state, count = (carry.carry, carry.step) if isinstance(carry, jn.CountedCarry) else (carry, None)
    arrays = (params, xs, state, stats)
    got = graded(unrolled, weights)(arrays, count)
    expected = graded(functools.partial(by_steps, cell, masks=masks, reverse=reverse), weights)(arrays, count)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), got, expected)
    assert type(got[0][1][2]) is type(carry)


def test_the_carries_are_those_of_the_equations(rng, x64):
    """Not of our own step: NumPy, row by row."""
    cell = jn.ln_lstm(H, learn_carry=True)
    params, xs, carry, _, masks = draw(cell, (3,), ("lengths", "reset"), rng, stats=False)
    out = jn.unroll(cell, params, xs, carry=carry, return_carries=True, **masks)
    lengths, reset = np.asarray(masks["lengths"]), np.asarray(masks["reset"])
    weights = oracles.to_numpy(params)
    for row in range(3):
        state = tuple(np.asarray(entry, np.float64)[row][None] for entry in carry)
        for t in range(STEPS):
            if t < lengths[row]:
                if reset[t, row]:
                    state = tuple(np.asarray(entry)[None] for entry in weights.carry)
                state, _ = oracles.ln_lstm_step(weights, state, np.asarray(xs, np.float64)[t, row][None])
            np.testing.assert_allclose(out.carries.c[t, row], state[0][0], rtol=1e-9)
            np.testing.assert_allclose(out.carries.h[t, row], state[1][0], rtol=1e-9)


def test_truncation_cuts_the_gradients_of_carries_alike(rng, x64):
    cell = jn.gru(H)
    params, xs, carry, _, _ = draw(cell, (2,), (), rng, stats=False)

    def gradient(**options):
        def loss(params, xs, carry):
            out = jn.unroll(cell, params, xs, carry=carry, truncate=2, return_carries=True, **options)
            return jnp.sum(jnp.sin(3 * out.carries.h) * jnp.linspace(0.0, 1.0, STEPS)[:, None, None])

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(params, xs, carry)

    chunked, scan = gradient(chunk=3), gradient(method="scan")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), chunked, scan)
    assert not np.asarray(scan[2].h).any()
    assert np.asarray(scan[1][0]).any()


def test_without_steps_or_without_asking(rng):
    params = cases.random_cell_params(BN, rng)
    xs = cases.random_inputs(rng, STEPS, (2,))
    assert jn.unroll(BN, params, xs).carries is None
    for method, reverse in itertools.product(("chunked", "scan"), (False, True)):
        out = jn.unroll(
            BN, params, xs[:0], lengths=jnp.array([0, 3]), method=method, reverse=reverse,
            return_carries=True, masked_outputs="hold",
        )  # fmt: skip
        assert out.outputs.shape == (0, 2, H)
        assert (out.carries.c.shape, out.carries.step.shape) == ((0, 2, H), (0, 2))


def test_lengths_are_a_mask_of_the_later_steps(rng, x64):
    """In reverse, too: the padding comes first there, so it holds zeros and keeps the carry that was handed in."""
    cell = jn.ln_gru(H)
    params, xs, carry, _, masks = draw(cell, (3,), ("lengths",), rng, stats=False)
    where = jnp.arange(STEPS)[:, None] < masks["lengths"][None]
    options = {"carry": carry, "reverse": True, "masked_outputs": "hold", "return_carries": True}
    a, b = (jn.unroll(cell, params, xs, **options, **m) for m in (masks, {"where": where}))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), a, b)
    padding = ~np.asarray(where)
    assert not np.asarray(a.outputs)[padding].any()
    np.testing.assert_allclose(
        np.asarray(a.carries.h)[padding], np.broadcast_to(carry.h, (STEPS, 3, H))[padding], rtol=1e-6
    )


def test_several_layers_and_directions(rng):
    cells = (jn.ln_lstm(H), jn.ln_gru(H))
    params = [cases.random_cell_params(c, rng, size) for c, size in zip(cells, (cases.IN_FEATURES, H), strict=True)]
    xs = cases.random_inputs(rng, STEPS, (2,))
    options = {"return_carries": True, "lengths": jnp.array([5, 3])}
    out = jn.stack(cells, params, xs, **options)
    first = jn.unroll(cells[0], params[0], xs, **options)
    np.testing.assert_allclose(out.carries[0].c, first.carries.c, rtol=1e-6)
    np.testing.assert_allclose(out.carries[1].h[-1], out.carry[1].h, rtol=1e-6)
    assert jn.stack(cells, params, xs).carries is None
    both = jn.bidirectional((cells[0],) * 2, params[:1] * 2, xs, **options)
    assert type(both.carries) is jn.Directions
    np.testing.assert_allclose(both.carries.forward.h, first.carries.h, rtol=1e-6)
    np.testing.assert_allclose(both.carries.backward.h[0], both.carry.backward.h, rtol=1e-6)
    assert jn.bidirectional((cells[0],) * 2, params[:1] * 2, xs).carries is None


@pytest.mark.parametrize("first", [0, 1])
def test_a_residual_connection_holds_the_sum(first, rng):
    cells = (jn.ln_gru(H), jn.ln_gru(H))
    params = [cases.random_cell_params(c, rng, H) for c in cells]
    xs = jnp.asarray(rng.standard_normal((STEPS, 2, H)), jnp.float32)
    where = jnp.asarray(rng.random((STEPS, 2)) < 0.5).at[1].set(True).at[3].set(False)
    reset = jnp.zeros((STEPS, 2), bool).at[3, 0].set(True)
    xs = jnp.where(where[..., None], xs, jnp.nan)
    masks = {"where": where, "reset": reset, "first": first}
    zero, held = (jn.residual_stack(cells, params, xs, masked_outputs=m, **masks).outputs for m in ("zero", "hold"))
    expected = np.array(zero)
    for row, t in itertools.product(range(2), range(STEPS)):
        if not where[t, row] and t > 0 and not reset[t, row]:
            expected[t, row] = expected[t - 1, row]
    np.testing.assert_allclose(held, expected, rtol=1e-6)
    assert np.abs(expected - zero).max() > 0.1


def test_the_modules_of_flax_hand_the_option_on(rng):
    xs = jnp.asarray(rng.standard_normal((2, STEPS, 3)), jnp.float32)
    lengths = jnp.array([5, 2])
    zero, hold = (jl.RNN(jn.gru(H), engine={"masked_outputs": word}) for word in ("zero", "hold"))
    variables = zero.init(jax.random.key(0), xs)
    ys = zero.apply(variables, xs, seq_lengths=lengths)
    held = hold.apply(variables, xs, seq_lengths=lengths)
    np.testing.assert_array_equal(held[:, -1], jnp.stack([ys[0, 4], ys[1, 1]]))
    np.testing.assert_array_equal(held[:, :2], ys[:, :2])


def test_errors(rng):
    params, xs = cases.random_cell_params(BN, rng), cases.random_inputs(rng, 2, (2,))
    with pytest.raises(ValueError, match=r"unroll: masked_outputs must be one of 'zero', 'hold'; got 'last'"):
        jn.unroll(BN, params, xs, masked_outputs="last")
    with pytest.raises(TypeError, match=r"RNN: engine must hold options of the loop, got return_carries=True"):
        jl.RNN(BN, engine={"return_carries": True})
