"""What is peculiar to batch norms by absolute deviations and by the range: constants, ties, devices, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import batch_oracles

L1, L_INFINITY, TOP_K = ({"deviation": word} for word in ("l1", "l_infinity", "top_k"))


def spread_of(function, x, **options):
    """What stands for the standard deviation, a mean over features."""
    _, measured = function(jnp.asarray(x, jnp.float32), **options)
    return float(np.sqrt(np.asarray(measured.var, np.float64)).mean())


@pytest.mark.parametrize(
    ("n", "largest", "ten_largest"), [(32, 1.35, 0.87), (128, 1.40, 1.06), (256, 1.41, 1.12), (1024, 1.43, 1.19)]
)
def test_estimates_from_normal_data(rng, n, largest, ten_largest):
    """The table of measured constants in the specification; relative to the standard deviation."""
    x = 3.0 * rng.standard_normal((n, 2000)) + 7
    assert spread_of(jn.lp_batch_norm, x, **L1) / 3 == pytest.approx(1.0, abs=0.02)
    assert spread_of(jn.lp_batch_norm, x, **L_INFINITY) / 3 == pytest.approx(largest, abs=0.02)
    assert spread_of(jn.lp_batch_norm, x, **TOP_K) / 3 == pytest.approx(ten_largest, abs=0.02)


@pytest.mark.parametrize(("n", "published"), [(32, 1.57), (128, 1.67), (1024, 1.75)])
def test_range_of_normal_data(rng, n, published):
    x = 3.0 * rng.standard_normal((n, 2000)) + 7
    whole = spread_of(jn.range_batch_norm, x) / 3
    assert whole == pytest.approx(published, abs=0.02)
    assert spread_of(jn.range_batch_norm, x, constant="consistent") / 3 == pytest.approx(whole / 2, rel=1e-5)


@pytest.mark.parametrize(("m", "estimate"), [(32, 0.85), (512, 0.95)])
def test_range_in_chunks_of_normal_data(rng, m, estimate):
    x = 3.0 * rng.standard_normal((16 * m, 400)) + 7
    assert spread_of(jn.range_batch_norm, x, constant="code", chunks=16) / 3 == pytest.approx(estimate, abs=0.02)


def test_constants():
    assert np.isclose(
        batch_oracles.largest_constant(100), 0.5 * (1 + (np.pi * np.log(4)) ** 0.5) / (2 * np.log(100)) ** 0.5
    )
    x = jnp.array([[-1.0], [1.0], [4.0], [-4.0]])
    assert spread_of(jn.lp_batch_norm, x) == pytest.approx(np.sqrt(np.pi / 2) * 2.5)
    assert spread_of(jn.lp_batch_norm, x, deviation="top_k", k=99) == pytest.approx(
        2.5 * batch_oracles.largest_constant(4)
    )
    # 0.540 / sqrt(2 ln m), as the specification has it for the code's chunks.
    code = spread_of(jn.range_batch_norm, x, constant="code", chunks=2)
    assert code == pytest.approx(5.0 * 0.540 / np.sqrt(2 * np.log(2)), rel=1e-3)


def test_epsilon_is_added_to_the_estimate():
    x = jnp.array([[-1e-3], [1e-3]])
    y, _ = jn.lp_batch_norm(x, epsilon=0.5)
    spread = np.sqrt(np.pi / 2) * 1e-3
    np.testing.assert_allclose(y, np.asarray(x) / (spread + 0.5), rtol=1e-5)
    assert not np.allclose(y, np.asarray(x) / np.sqrt(spread**2 + 0.5), rtol=1e-2)
    for norm in (jn.LpBatchNorm(), jn.RangeBatchNorm()):
        np.testing.assert_array_equal(norm(norm.init((1,)), jnp.full((4, 1), 3.0))[0], 0.0)


def test_ties_share_the_derivative():
    """-3, 0, 0, 3: both ends attain the largest deviation, and each has half of its derivative."""

    def largest(x):
        _, measured = jn.lp_batch_norm(x, **L_INFINITY)
        return jnp.sqrt(measured.var[0]) / batch_oracles.largest_constant(4)

    value, gradient = jax.value_and_grad(largest)(jnp.array([[-3.0], [0.0], [0.0], [3.0]]))
    assert float(value) == pytest.approx(3.0)
    np.testing.assert_allclose(gradient[:, 0], [-0.5, 0.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize("spec", [jn.LpBatchNorm(**L_INFINITY), jn.LpBatchNorm(**TOP_K, k=4), jn.RangeBatchNorm()])
def test_two_named_axes_with_an_empty_member(rng, spec):
    """Unequal numbers of real elements, one member without any, a tuple of names; values and gradients."""
    x = rng.standard_normal((2, 3, 5, 2)).astype(np.float32)
    mask = rng.random((2, 3, 5, 1)) < 0.6
    mask[0, 1] = False
    mask = jnp.asarray(mask)
    weights = rng.standard_normal(x.shape).astype(np.float32)
    mapped_spec = type(spec)(**{**vars(spec), "axis_name": ("a", "b")})
    none = jn.Affine(None, None)

    def whole(x):
        y, measured = spec(none, x, None, mask)
        return jnp.sum(y * weights), measured

    def mapped(x):
        one = jax.vmap(lambda x, m: mapped_spec(none, x, None, m), axis_name="b", out_axes=(0, None))
        y, measured = jax.vmap(one, axis_name="a", out_axes=(0, None))(x, mask)
        return jnp.sum(y * weights), measured

    both = jax.jit(lambda x: [jax.value_and_grad(f, has_aux=True)(x) for f in (whole, mapped)])
    want, got = both(x)
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_running_and_population_statistics_are_those_of_the_square(rng):
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    norm = jn.LpBatchNorm(momentum=0.5)
    params = norm.init((3,))
    running, batches = norm.initial_stats((3,)), []
    for batch in x:
        _, measured = norm(params, jnp.asarray(batch))
        running = norm.fold(running, measured)
        batches.append(measured)
    squares = [[batch_oracles.lp_estimate(np.float64(b[:, f]), "l1") ** 2 for f in range(3)] for b in x]
    np.testing.assert_allclose(running.var, 0.25 + 0.25 * np.array(squares[0]) + 0.5 * np.array(squares[1]), rtol=1e-5)
    population = jn.population(batches, ddof=0)
    np.testing.assert_allclose(population.var, np.mean(squares, 0), rtol=1e-5)
    y, _ = norm(params, jnp.asarray(x[0]), running)
    want = (x[0] - np.asarray(running.mean)) / (np.sqrt(np.asarray(running.var)) + 1e-5)
    np.testing.assert_allclose(y, want, atol=1e-5)


def test_in_a_cell(rng):
    cell = jn.LSTM(3, norm=jn.Sites(input=jn.LpBatchNorm(), recurrent=jn.RangeBatchNorm(constant="consistent")))
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.asarray(rng.standard_normal((4, 5, 2)), jnp.float32)
    out = jn.unroll(cell, params, xs, lengths=jnp.array([4, 2, 0, 3, 4]))
    folded = cell.fold(cell.initial_stats(), out.moments)
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves((out.outputs, folded)))


def test_errors():
    x = jnp.ones((6, 2))
    for make in (lambda: jn.lp_batch_norm(x, deviation="l2"), lambda: jn.LpBatchNorm(deviation="l2")):
        with pytest.raises(Exception, match="l2"):
            make()
    with pytest.raises(ValueError, match=r"LpBatchNorm: k must be a positive integer, got 0"):
        jn.LpBatchNorm(k=0)
    with pytest.raises(ValueError, match=r"chunks=4 must divide the number of elements of each feature, got 6"):
        jn.range_batch_norm(x, chunks=4)
    with pytest.raises(ValueError, match=r"RangeBatchNorm: chunks=2 is defined for the elements of one array"):
        jn.RangeBatchNorm(chunks=2, axis_name="data")
    for function in (jn.lp_batch_norm, jn.range_batch_norm):
        with pytest.raises(ValueError, match=r"axis_name='data' is not bound here"):
            function(x, axis_name="data")
