"""Statistics that outlive a batch: rows, running averages, Algorithm 2 of batch normalization."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.norms.core.rows import lay_in_order, pool
from tests.norms import oracles


def as_moments(mean, var, count):
    return jn.Moments(*(jnp.asarray(leaf, jnp.float32) for leaf in (mean, var, count)))


def assert_moments(got, want, tolerance=1e-5):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def random_steps(rng, steps=5, batch=4, features=2):
    """Data of T steps, its mask with step 3 empty and step 1 of one row, and the measured statistics."""
    x = rng.standard_normal((steps, batch, features)) + np.arange(steps).reshape(-1, 1, 1)
    mask = rng.random((steps, batch, 1)) < 0.8
    mask[3], mask[1], mask[1, 0] = False, False, True
    parts = [oracles.moments(x[t], where=mask[t]) for t in range(steps)]
    mean, var, count = (np.stack(p) for p in zip(*parts, strict=True))
    return x, mask, as_moments(mean, var, count[:, 0])


# Compiled whole, which costs less than operation by operation.
update_running = jax.jit(jn.update_running, static_argnames=("momentum", "ddof", "debias"))


@pytest.mark.parametrize("ddof", [0, 1])
def test_fold_is_the_exponential_average(rng, ddof):
    old = as_moments(rng.standard_normal(3), rng.uniform(0.5, 2.0, 3), 10.0)
    batch = as_moments(rng.standard_normal(3), rng.uniform(0.5, 2.0, 3), 4.0)
    got = update_running(old, batch, momentum=0.9, ddof=ddof)
    corrected = np.asarray(batch.var) * (4.0 / 3.0 if ddof else 1.0)
    assert_moments(
        got, (0.9 * np.asarray(old.mean) + 0.1 * batch.mean, 0.9 * np.asarray(old.var) + 0.1 * corrected, 14.0)
    )
    kept, replaced = (update_running(old, batch, momentum=m, ddof=ddof) for m in (1.0, 0.0))
    assert_moments(kept, (old.mean, old.var, 14.0))
    assert_moments(replaced, (batch.mean, corrected, 14.0))


def test_fold_without_momentum_is_the_exact_average_over_everything(rng):
    sizes, features = (4, 1, 3), 2
    batches = [rng.standard_normal((size, features)) * 2 + 5 for size in sizes]
    running = jn.BatchNorm().initial_stats((features,))
    for batch in batches:
        running = update_running(running, as_moments(*oracles.moments(batch)[:2], len(batch)), momentum=None)
    mean, var, count = oracles.moments(np.concatenate(batches))
    assert_moments(running, (mean, var, count[0]))


def test_fold_leaves_what_nobody_measured():
    running = as_moments([1.0, 2.0, 3.0], [0.5, 0.6, 0.7], [5.0, 5.0, 5.0])
    measured = as_moments([10.0, 20.0, 0.0], [4.0, 0.0, 0.0], [2.0, 1.0, 0.0])
    for momentum in (0.5, None):
        for ddof in (0, 1):
            got = update_running(running, measured, momentum=momentum, ddof=ddof)
            # The third was never seen. The second has one element: an unbiased variance exists only for the union.
            np.testing.assert_array_equal([leaf[2] for leaf in got], [leaf[2] for leaf in running])
            assert got.mean[1] != running.mean[1]
            assert (got.var[1] == running.var[1]) == (ddof == 1 and momentum is not None)
            np.testing.assert_array_equal(got.count, [7.0, 6.0, 5.0])
            chex.assert_tree_all_finite(got)
    half = update_running(running, measured, momentum=0.5, ddof=1)
    np.testing.assert_allclose(half.var[0], 0.5 * 0.5 + 0.5 * 4.0 * 2.0, rtol=1e-6)


def test_no_gradient_flows_through_fold():
    running = jn.BatchNorm().initial_stats((2,))

    def total(x):
        folded = update_running(running, jn.moments(x))
        return jnp.sum(folded.mean) + jnp.sum(folded.var)

    assert not np.asarray(jax.jit(jax.grad(total))(jnp.array([[1.0, 2.0], [3.0, 5.0]]))).any()


@pytest.mark.parametrize("rows", [1, 3, 5, 8])
def test_steps_are_laid_into_rows_in_their_order(rng, rows):
    x, mask, measured = random_steps(rng)
    got = jax.jit(lay_in_order, static_argnums=1)(measured, rows)
    for row in range(rows):
        steps = [t for t in range(len(x)) if min(t, rows - 1) == row]
        if steps:
            want = oracles.moments(np.concatenate(x[steps]), where=np.concatenate(mask[steps]))
            assert_moments([leaf[row] for leaf in got], (*want[:2], want[2][0]))
        else:
            assert not any(np.asarray(leaf[row]).any() for leaf in got)
    nothing = lay_in_order(jax.tree.map(lambda leaf: leaf[:0], measured), rows)
    assert nothing.mean.shape == (rows, 2)
    assert not any(np.asarray(leaf).any() for leaf in nothing)


def test_pooled_means_far_from_zero_keep_their_digits(rng):
    """A thousand steps of unequal size at 1e4; the sum alone is off by hundreds of ulps."""
    x = [rng.standard_normal((size, 2)) + 1e4 for size in rng.integers(1, 9, 1000)]
    parts = [oracles.moments(part) for part in x]
    measured = as_moments(*(np.stack([p[k] for p in parts]) for k in (0, 1)), [len(part) for part in x])
    # The oracle is of the rounded means: what they had lost before is not to be found again.
    mean, var, n = (np.asarray(leaf, np.float64) for leaf in measured)
    center = (n[:, None] * mean).sum(0) / n.sum()
    got = jax.jit(pool)(measured)
    np.testing.assert_allclose(got.mean, center, rtol=1.2e-7)
    np.testing.assert_allclose(got.var, (n[:, None] * (var + (mean - center) ** 2)).sum(0) / n.sum(), rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.9, 0.75])
def test_debiased_average(rng, momentum):
    """The plain weighted average until the share of the new values falls below 1 - momentum."""
    sizes = rng.integers(1, 9, 30)
    batches = [as_moments(rng.standard_normal(3), rng.uniform(0.5, 2.0, 3), float(n)) for n in sizes]
    running = as_moments(np.zeros(3), np.ones(3), 0.0)
    mean, var, total = np.full(3, 7.0), np.full(3, 7.0), 0.0
    for k, (n, batch) in enumerate(zip(sizes, batches, strict=True)):
        running = update_running(running, batch, momentum=momentum, debias=True)
        total += n
        weight = max(1 - momentum, n / total)
        mean, var = (old + weight * (np.asarray(new) - old) for old, new in ((mean, batch.mean), (var, batch.var)))
        assert_moments(running, (mean, var, total))
        if k == 2:
            shares = sizes[:3] / sizes[:3].sum()
            plain = [shares @ [getattr(b, name) for b in batches[:3]] for name in ("mean", "var")]
            assert_moments(running, (*plain, total))
    empty = update_running(running, as_moments(np.full(3, 9.0), np.full(3, 9.0), 0.0), momentum=momentum, debias=True)
    assert_moments(empty, running, 0.0)


@pytest.mark.parametrize("rule", [{"momentum": 0.0}, {"debias": True}])
def test_the_start_values_take_no_digits_from_the_first_batch(rule, rng):
    """A variance of 1e-5 beside the 1 that it replaces, a mean of 1e-5 beside 1e4."""
    first = as_moments(rng.uniform(1e-5, 2e-5, 3), rng.uniform(1e-5, 2e-5, 3), 4.0)
    for running in (as_moments(np.zeros(3), np.ones(3), 0.0), as_moments(np.full(3, 1e4), np.full(3, 1e4), 0.0)):
        assert_moments(update_running(running, first, **rule), first, 0.0)


def test_fold_pools_parts_of_a_batch(rng):
    x, mask, measured = random_steps(rng)
    single = as_moments(np.zeros(2), np.ones(2), 0.0)
    mean, var, count = oracles.moments(x, axis=(0, 1), where=mask)
    assert_moments(update_running(single, measured, momentum=0.9), (0.1 * mean, 0.9 + 0.1 * var, count[0]))


def test_debiased_rows_and_features_have_shares_of_their_own():
    running = as_moments(np.zeros((2, 1)), np.ones((2, 1)), [0.0, 12.0])
    got = update_running(running, as_moments([[4.0], [4.0]], [[2.0], [2.0]], [4.0, 4.0]), momentum=0.9, debias=True)
    assert_moments(got, ([[4.0], [1.0]], [[2.0], [1.25]], [4.0, 16.0]))
    apart = as_moments([4.0, 4.0], [2.0, 2.0], [4.0, 12.0])
    got = update_running(as_moments(np.zeros(2), np.ones(2), 4.0), apart, momentum=0.9, debias=True)
    assert_moments(got, ([2.0, 3.0], [1.5, 1.75], 16.0))


def test_fold_maps_over_trees_and_passes_empty_places(rng):
    old, new = (as_moments(rng.standard_normal(2), rng.uniform(0.5, 2.0, 2), 3.0) for _ in range(2))
    got = update_running({"a": old, "b": ((), old)}, {"a": new, "b": ((), new)}, momentum=0.3)
    want = update_running(old, new, momentum=0.3)
    assert got["b"][0] == ()
    for moments in (got["a"], got["b"][1]):
        assert_moments(moments, want, 0.0)


def test_fold_keeps_the_dtypes_of_the_running_statistics(x64):
    running = jn.BatchNorm().initial_stats((1,))
    measured = jax.jit(jn.moments)(jnp.array([[1.0], [4.0]], jnp.float64))
    assert measured.mean.dtype == jnp.float64
    assert all(leaf.dtype == jnp.float32 for leaf in update_running(running, measured))


def test_population_is_algorithm_2_of_batch_normalization(rng):
    batches = rng.standard_normal((5, 4, 3)) * 2.0 + rng.standard_normal((5, 1, 1)) * 10.0
    measured = [as_moments(*oracles.moments(batch)[:2], 4.0) for batch in batches]
    means = np.stack([batch.sum(0) / 4 for batch in batches])
    biased = np.stack([((batch - batch.sum(0) / 4) ** 2).sum(0) / 4 for batch in batches])
    got, plain = jn.population(iter(measured)), jn.population(measured, ddof=0)
    assert_moments(got, (means.mean(0), 4 / 3 * biased.mean(0), 20.0))
    assert_moments(plain, (means.mean(0), biased.mean(0), 20.0))
    np.testing.assert_allclose(np.asarray(got.var) / np.asarray(plain.var), 4 / 3, rtol=1e-6)


def test_population_weighs_unequal_batches_by_their_size(rng):
    sizes = (5, 1, 0, 3)
    batches = [rng.standard_normal((size, 2)) + 3.0 for size in sizes]
    measured = [as_moments(*oracles.moments(batch)[:2], float(len(batch))) for batch in batches]
    spread = sum(((b - b.mean(0)) ** 2).sum(0) for b in batches if len(b))
    mean = np.concatenate(batches).mean(0)
    assert_moments(jn.population(measured), (mean, spread / (4 + 0 + 2), 9.0))
    assert_moments(jn.population(measured, ddof=0), (mean, spread / 9, 9.0))


def test_population_of_rows_trees_and_unseen_entries(rng):
    _, _, measured = random_steps(rng)
    tree = {"site": lay_in_order(measured, 7), "unused": ()}
    got = jn.population([tree, tree])
    assert got["unused"] == ()
    table = got["site"]
    assert table.mean.shape == (7, 2)
    dof = np.maximum(np.asarray(measured.count) - 1, 0)
    for t in range(5):
        n = float(measured.count[t])
        want = measured.var[t] * n / dof[t] if dof[t] else np.ones(2)
        assert_moments([leaf[t] for leaf in table], (measured.mean[t], want, 2 * n))
    # No batch reached the last two rows: mean 0, variance 1.
    assert_moments([leaf[5:] for leaf in table], (np.zeros((2, 2)), np.ones((2, 2)), np.zeros(2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r, m: jn.update_running(r, m, momentum=1.5),
            r"update_running: momentum must be a number in \[0.0, 1.0\], got 1.5",
        ),
        (lambda r, m: jn.update_running(r, m, ddof=2), r"update_running: ddof must be 0 .* or 1 .*, got 2"),
        (
            lambda r, m: jn.update_running(r, as_moments(np.zeros(3), np.ones(3), 1.0)),
            r"update_running: measured.mean has shape \(3,\), ",
        ),
        (lambda r, m: jn.population([]), r"population: batches is empty. Pass"),
        (lambda r, m: jn.population([m], ddof=2), r"population: ddof must be 0 or 1, got 2"),
        (
            lambda r, m: jn.update_running(m, jn.merge(m, m)._replace(mean=m.mean[:3])),
            r"update_running: measured.mean has shape \(3, 2\), ",
        ),
    ],
)
def test_errors_name_the_argument(call, message):
    running = as_moments(np.zeros(2), np.ones(2), 0.0)
    measured = as_moments(np.zeros((4, 2)), np.ones((4, 2)), np.ones(4))
    with pytest.raises(ValueError, match=message):
        call(running, measured)
