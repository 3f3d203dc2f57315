"""Statistics of time steps by the age of the examples: what is measured is laid into the rows that inference reads."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnorm as jn
from jaxnorm.engine.rows import examples_of_age, lay_by_age
from tests import cases
from tests.contracts.cell_checks import assert_close, merged
from tests.tools.marks import mostly_heavy

STEPS, BATCH, HIDDEN, IN = 6, 16, 3, cases.IN_FEATURES
BN = jn.BatchNorm(momentum=0.0)

CELLS = {
    "bn_lstm": jn.bn_lstm(HIDDEN, max_steps=8, momentum=0.0),
    "zoneout": jn.deterministic(jn.Zoneout(jn.bn_lstm(HIDDEN, max_steps=8, momentum=0.0), rate=0.3)),
    "gru_summed": jn.zoo.ResetBeforeGRU(HIDDEN, norm=jn.CellNorms(recurrent=BN, summed=BN), max_steps=8),
    "reparametrized": jn.Reparametrized(jn.bn_lstm(HIDDEN, max_steps=8, momentum=0.0), jn.WeightNorm()),
    "l1_and_range": jn.LSTM(
        HIDDEN,
        norm=jn.CellNorms(input=jn.zoo.LpBatchNorm(momentum=0.0), recurrent=jn.zoo.RangeBatchNorm(momentum=0.0)),
        max_steps=8,
    ),
}


class Drawn(NamedTuple):
    params: object
    xs: jax.Array
    carry: object


def draw(cell, rng, steps=STEPS, dtype=jnp.float32):
    """Inputs that drift, so that each step has other statistics; and a carry that has seen four of them."""
    params = cases.random_cell_params(cell, rng, dtype=dtype)
    xs = cases.random_inputs(rng, steps, (BATCH,), dtype) + jnp.arange(steps, dtype=dtype)[:, None, None] / 4
    return Drawn(params, xs, jn.unroll(cell, params, xs[:4]).carry)


def at_steps(*real):
    """A mask that is the same for all examples."""
    return jnp.broadcast_to(jnp.array(real)[:, None], (len(real), BATCH))


SCENES = {
    "padding on the left": {"where": at_steps(False, False, True, True, True, True)},
    "padding in the middle": {"where": at_steps(True, False, True, False, False, True)},
    "lengths": {"lengths": jnp.arange(BATCH) % (STEPS + 1)},
    "lengths, reverse": {"lengths": jnp.arange(BATCH) % (STEPS + 1), "reverse": True},
    "padding, reverse": {"where": at_steps(False, True, True, False, True, False), "reverse": True},
    "a piece": {"carry": True},
    "a piece that begins with a reset": {"carry": True, "reset": at_steps(True, *(False,) * 5)},
    "a piece with lengths": {"carry": True, "lengths": jnp.arange(BATCH) % (STEPS + 1)},
    "each example padded on its own side": {
        "where": jnp.ones((STEPS, BATCH), bool).at[:2].set(False),
        "lengths": jnp.arange(BATCH) % (STEPS + 1),
    },
}


OTHERS = [(name, scene) for name in CELLS if name != "bn_lstm" for scene in (*list(SCENES)[:1], *list(SCENES)[6:7])]


@pytest.mark.parametrize(
    ("name", "scene"),
    [("bn_lstm", scene) for scene in SCENES] + mostly_heavy(OTHERS, kept=2),
)
def test_inference_repeats_training_where_each_age_comes_at_one_step(name, scene, x64, rng):
    """With momentum 0, to the last digits: statistics are exactly those of training. The piece reaches the last row."""
    cell, options = CELLS[name], dict(SCENES[scene])
    steps = 4 if options.get("carry") and "reset" not in options else STEPS  # ages 4 to 7, a row each
    drawn = draw(cell, rng, dtype=jnp.float64)
    options = {key: value[:steps] if key in ("where", "reset") else value for key, value in options.items()}
    if options.get("carry"):
        options["carry"] = drawn.carry

    @jax.jit
    def both(params, xs):
        out = jn.unroll(cell, params, xs, **options)
        before = jax.tree.map(lambda leaf: leaf.astype(xs.dtype), cell.initial_stats())
        return out.outputs, jn.unroll(
            cell, params, xs, **options, stats=cell.update_running(before, out.moments)
        ).outputs

    trained, inferred = both(drawn.params, drawn.xs[:steps])
    np.testing.assert_allclose(inferred, trained, rtol=1e-9, atol=1e-11)


def test_a_window_that_begins_with_a_reset_leaves_later_rows_alone(rng):
    cell = CELLS["bn_lstm"]
    drawn = draw(cell, rng)
    out = jn.unroll(cell, drawn.params, drawn.xs, carry=drawn.carry, reset=at_steps(True, *(False,) * 5))
    np.testing.assert_array_equal(out.moments.recurrent.count, [BATCH] * STEPS + [0, 0])
    later = jn.unroll(cell, drawn.params, drawn.xs[:2], carry=drawn.carry)
    np.testing.assert_array_equal(later.moments.recurrent.count, [0, 0, 0, 0, BATCH, BATCH, 0, 0])


def oracle_rows(cell, params, xs, ages, where, **options):
    """Averages over examples in float64, from the statistics of each step, measured a step at a time."""
    rows = cell.max_steps
    every = dataclasses.replace(cell, max_steps=10**3)
    carry = options.pop("carry", None)
    found = {site: [] for site in ("input", "recurrent", "cell")}
    for t in range(len(xs)):
        step = {key: value[t : t + 1] for key, value in options.items()}
        out = jn.unroll(every, params, xs[t : t + 1], carry=carry, where=where[t : t + 1], **step)
        carry = out.carry
        for site, measured in found.items():
            m = jax.tree.map(np.float64, getattr(out.moments, site))
            held = int(np.argmax(m.count))
            measured.append((m.mean[held], m.var[held]))
    table = {}
    for site, measured in found.items():
        mean, var, count = [], [], []
        for row in range(rows):
            behind = [
                measured[t]
                for t in range(len(xs))
                for b in range(xs.shape[1])
                if where[t, b] and min(ages[t, b], rows - 1) == row
            ]
            count.append(len(behind))
            means, variances = (np.array([entry[k] for entry in behind]) for k in (0, 1))
            zero = np.zeros_like(measured[0][0])
            mean.append(means.mean(0) if behind else zero)
            var.append((variances + (means - mean[-1]) ** 2).mean(0) if behind else zero)
        table[site] = jn.Moments(np.stack(mean), np.stack(var), np.array(count, np.float64))
    return table


@pytest.mark.parametrize("rows", [2, 4])
def test_ages_that_mix_within_a_step_are_averaged_by_their_examples(rows, x64, rng):
    """Masks and resets anywhere, and a carry of mixed ages."""
    cell = jn.bn_lstm(HIDDEN, max_steps=rows)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    where, reset = rng.random((STEPS, BATCH)) < 0.6, rng.random((STEPS, BATCH)) < 0.2
    start = rng.integers(0, 4, BATCH)
    carry = jn.CountedCarry(
        jn.LSTMCarry(*jnp.asarray(rng.standard_normal((2, BATCH, HIDDEN)))), jnp.asarray(start, jnp.int32)
    )
    ages, age = [], start.copy()
    for t in range(STEPS):
        age = np.where(reset[t], 0, age)
        ages.append(age.copy())
        age = age + where[t]
    given = {"carry": carry, "where": jnp.asarray(where), "reset": jnp.asarray(reset)}
    got = jn.unroll(cell, params, xs, **given)
    np.testing.assert_array_equal(got.carry.step, age)
    for site, expected in oracle_rows(cell, params, xs, np.stack(ages), **given).items():
        for a, b in zip(getattr(got.moments, site), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ramp", [0.0, 1e4])
def test_rows_keep_the_digits_of_data_far_from_zero(ramp, rng):
    """Means at 1e4 (and 1e4 apart from step to step) in float32 against float64; one row has a single step: exact."""
    steps, rows = 200, 7
    number = rng.integers(0, 4, (steps, rows))
    number[:, 5], number[:, 6] = 0, 0
    number[3, 5] = 3
    mean = (1e4 + ramp * np.arange(steps)[:, None] + rng.standard_normal((steps, 2))).astype(np.float32)
    var = rng.uniform(0.5, 2.0, (steps, 2)).astype(np.float32)
    count = number.sum(1).astype(np.float32)
    got = jax.jit(lay_by_age)(jn.Moments(*map(jnp.asarray, (mean, var, count))), jnp.asarray(number))
    for row in range(rows - 1):
        weight = number[:, row, None] / number[:, row].sum()
        center = (weight * mean.astype(np.float64)).sum(0)
        spread = (weight * (var + (mean.astype(np.float64) - center) ** 2)).sum(0)
        np.testing.assert_allclose(got.mean[row], center, rtol=1.2e-7)
        np.testing.assert_allclose(got.var[row], spread, rtol=3e-6)
    np.testing.assert_array_equal((got.mean[5], got.var[5]), (mean[3], var[3]))
    np.testing.assert_array_equal(got.count, number.sum(0))
    assert not np.any(got.mean[6]), "a row without an example"


def test_features_with_counts_of_their_own(rng):
    """Each is as if it were alone; the elements of a step are shared out by its examples."""
    number = np.array([[2, 1, 0], [0, 4, 0], [3, 0, 0]])
    whole = [rng.standard_normal((3, 2)), rng.uniform(0.5, 2.0, (3, 2)), np.array([[6.0, 3.0], [4.0, 2.0], [0.0, 3.0]])]
    both = lay_by_age(jn.Moments(*(jnp.asarray(a, jnp.float32) for a in whole)), jnp.asarray(number))
    assert both.count.shape == (3, 2)
    np.testing.assert_allclose(both.count, [[4.0, 5.0], [6.0, 3.0], [0.0, 0.0]])
    for k in range(2):
        alone = lay_by_age(jn.Moments(*(jnp.asarray(a[:, k], jnp.float32) for a in whole)), jnp.asarray(number))
        for a, b in zip(both, alone, strict=True):
            np.testing.assert_allclose(a[:, k], b, rtol=1e-6)


def test_examples_are_counted_by_age():
    age, where = jnp.array([[0, 0, 5], [1, 2, 5]]), jnp.array([[True, False, True], [True, True, True]])
    assert examples_of_age(age, where, 3).tolist() == [[1, 0, 1], [0, 1, 2]]
    assert examples_of_age(age.reshape(2, 3, 1), None, 2).tolist() == [[2, 1], [0, 3]]
    assert examples_of_age(jnp.array([0, 4]), None, 2).tolist() == [[1, 0], [0, 1]]
    assert examples_of_age(jnp.zeros((0, 3), jnp.int32), None, 2).shape == (0, 2)


def test_steps_in_order_need_neither_table_nor_product(rng):
    """Whole sequences from the start, padded at their end, and single rows: as cheap as without ages."""
    cell, one_row = CELLS["bn_lstm"], jn.bn_lstm(HIDDEN, max_steps=1)
    drawn = draw(cell, rng)
    where = at_steps(*(True,) * 5, False)
    lengths = jnp.arange(BATCH) % (STEPS + 1)

    def primitives(cell, **options):
        text = str(jax.make_jaxpr(lambda p, xs: jn.unroll(cell, p, xs, **options))(drawn.params, drawn.xs))
        return "scatter" in text

    assert not primitives(cell, lengths=lengths)
    assert not primitives(cell, lengths=lengths, reverse=True)
    assert not primitives(one_row, where=where)
    assert primitives(cell, where=where), "the probe finds the table of a mask"
    whole, masked = (
        jn.unroll(cell, drawn.params, drawn.xs, lengths=lengths),
        jn.unroll(cell, drawn.params, drawn.xs, where=jnp.arange(STEPS)[:, None] < lengths[None]),
    )
    assert_close(masked.moments, whole.moments, 1e-6)


@pytest.mark.heavy
def test_memory_of_the_table_is_that_of_integers(rng):
    """With 256 steps, rows and examples the pairs of two of them are cheap, and all triples would be 64 MiB."""
    size = 256
    cell = jn.bn_lstm(4, max_steps=size)
    params = cell.init(jax.random.key(0), 2)
    xs, where = jnp.zeros((size, size, 2)), jnp.ones((size, size), bool)

    def loss(params, xs, where):
        out = jn.unroll(cell, params, xs, where=where)
        return jnp.sum(out.outputs), cell.update_running(cell.initial_stats(), out.moments)

    def bytes_of(cell_loss):
        return jax.jit(cell_loss).lower(params, xs, where).compile().memory_analysis().temp_size_in_bytes

    with_rows = bytes_of(jax.grad(loss, has_aux=True))
    without = bytes_of(jax.grad(lambda *args: loss(*args)[0]))
    assert with_rows - without < 6 * size * size * 4


def test_gradients_of_moments(x64, rng):
    """A loss on moments of mixed ages, against finite differences; both methods."""
    cell = jn.bn_lstm(2, max_steps=3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, 5, (4,), jnp.float64)
    masks = {"where": jnp.asarray(rng.random((5, 4)) < 0.8), "reset": jnp.asarray(rng.random((5, 4)) < 0.3)}

    def loss(xs, method="chunked"):
        moments = jn.unroll(cell, params, xs, **masks, method=method).moments
        return sum(jnp.sum(jnp.sin(3.0 * leaf)) for leaf in jax.tree.leaves(moments))

    direction = jnp.asarray(rng.standard_normal(xs.shape))
    slope = jax.jit(lambda h: (loss(xs + h * direction) - loss(xs - h * direction)) / (2 * h))(1e-5)
    for method in ("chunked", "scan"):
        gradient = jax.jit(jax.grad(partial(loss, method=method)))(xs)
        np.testing.assert_allclose(jnp.sum(gradient * direction), slope, rtol=1e-6)


def test_all_steps_at_once_measure_the_same(x64, rng):
    cell = jn.zoo.MinGRU(HIDDEN, norm=jn.CellNorms(input=jn.BatchNorm()), max_steps=3)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    where, reset = jnp.asarray(rng.random((STEPS, BATCH)) < 0.7), jnp.asarray(rng.random((STEPS, BATCH)) < 0.2)
    for reverse in (False, True):
        run = partial(jn.unroll, cell, params, xs, where=where, reset=reset, reverse=reverse)
        one, other = (run(method=method) for method in ("scan", "associative"))
        assert_close(other.moments, one.moments, 1e-9)


def test_stacks_and_directions_lay_the_moments_of_each_cell(rng):
    cells = (jn.bn_lstm(HIDDEN, max_steps=4), jn.bn_lstm(HIDDEN, max_steps=2))
    first, second = (cases.random_cell_params(cell, rng) for cell in cells)
    second = cells[1].init(jax.random.key(0), HIDDEN)
    xs, where = cases.random_inputs(rng, STEPS, (BATCH,)), at_steps(False, *(True,) * 5)
    out = jn.stack(cells, (first, second), xs, where=where)
    assert out.moments[0].input.count.tolist() == [BATCH, BATCH, BATCH, 2 * BATCH]
    assert out.moments[1].input.count.tolist() == [BATCH, 4 * BATCH]
    both = jn.bidirectional((cells[0], cells[0]), (first, first), xs, where=where)
    back = jn.unroll(cells[0], first, xs[::-1], where=where[::-1])
    assert_close(both.moments.backward, back.moments, 1e-6)


def test_pieces_are_merged_by_count(x64, rng):
    """Pieces of mixed ages together are the whole, by merge and by exact folding."""
    cell = jn.bn_lstm(HIDDEN, max_steps=4, momentum=None)
    params = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    where, reset = jnp.asarray(rng.random((STEPS, BATCH)) < 0.7), jnp.asarray(rng.random((STEPS, BATCH)) < 0.2)
    whole = jn.unroll(cell, params, xs, where=where, reset=reset)
    one = jn.unroll(cell, params, xs[:2], where=where[:2], reset=reset[:2])
    two = jn.unroll(cell, params, xs[2:], where=where[2:], reset=reset[2:], carry=one.carry)
    together = merged(one.moments, two.moments)
    assert_close(together, jax.tree.map(np.asarray, whole.moments), 1e-9)
    assert float(whole.moments.cell.count.sum()) == int(where.sum())


def test_a_normalizer_that_measures_no_moments_is_refused_at_a_site(rng):
    class Odd(jn.BatchNorm):
        def __call__(self, params, x, stats=None, where=None):
            return x, jnp.mean(x, axis=tuple(range(x.ndim - 1)))

    cell = jn.Elman(HIDDEN, norm=jn.CellNorms(cell=Odd()), max_steps=2)
    params = cell.init(jax.random.key(0), IN)
    with pytest.raises(TypeError, match=r"unroll: the normalizer at the site 'cell', .* measured an array"):
        jn.unroll(cell, params, jnp.ones((3, 2, IN)))


# ---- a default that a newcomer survives


def trained(cell, steps, classes=4, features=6, batch=32):
    """Accuracy on noisy prototypes of sequences, with the statistics of the batch and with running ones."""
    in_key, out_key = jax.random.split(jax.random.key(0))
    params = cell.init(in_key, features), 0.3 * jax.random.normal(out_key, (cell.hidden_features, classes))
    prototypes = 2.0 * jax.random.normal(jax.random.key(7), (classes, cell.max_steps, features))
    optimizer = optax.adam(3e-3)

    def draw(key, number):
        label_key, noise_key = jax.random.split(key)
        labels = jax.random.randint(label_key, (number,), 0, classes)
        clean = jnp.moveaxis(prototypes[labels], 1, 0)
        return clean + 2.0 * jax.random.normal(noise_key, clean.shape), labels

    def logits(params, xs, stats=None):
        out = jn.unroll(cell, params[0], xs, stats=stats)
        return out.carry.h @ params[1], out.moments

    def step(state, key):
        (params, moving, stats), (xs, labels) = state, draw(key, batch)

        def loss(params):
            found, moments = logits(params, xs)
            return optax.softmax_cross_entropy_with_integer_labels(found, labels).mean(), moments

        gradient, moments = jax.grad(loss, has_aux=True)(params)
        change, moving = optimizer.update(gradient, moving)
        return (optax.apply_updates(params, change), moving, cell.update_running(stats, moments)), None

    @jax.jit
    def run(params):
        state = params, optimizer.init(params), cell.initial_stats()
        (params, _, stats), _ = jax.lax.scan(step, state, jax.random.split(jax.random.key(1), steps))
        xs, labels = draw(jax.random.key(2), 500)
        return [(logits(params, xs, used)[0].argmax(-1) == labels).astype(jnp.float32).mean() for used in (None, stats)]

    with jax.numpy_dtype_promotion("standard"):  # for optax
        return [float(accuracy) for accuracy in run(params)]


def test_running_statistics_of_the_default_keep_what_training_learned():
    """After 50 steps measured 0.974 with the batch, 0.958 with the default, and 0.312 with Flax's 0.99 from 0 and 1."""
    for steps in (50, 300):
        batch, running = trained(jn.bn_lstm(16, max_steps=8), steps)
        assert batch > 0.95
        assert running > batch - 0.03
    assert trained(jn.bn_lstm(16, max_steps=8, momentum=0.99, debias=False), 50)[1] < 0.5
