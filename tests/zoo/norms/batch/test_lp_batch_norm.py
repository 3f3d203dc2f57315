"""What is peculiar to batch norms by absolute deviations and by the range: constants, ties, devices, statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import jaxnorm as jn
from tests.zoo.norms import batch_oracles

L1, L_INFINITY, TOP_K = ({"deviation": word} for word in ("l1", "l_infinity", "top_k"))


def spread_of(function, x, **options):
    """What stands for the standard deviation, a mean over features."""
    _, measured = function(jnp.asarray(x, jnp.float32), **options)
    return float(np.sqrt(np.asarray(measured.var, np.float64)).mean())


# The measured estimates of the specification, over the standard deviation: L-infinity, Top-10, published range.
MEASURED = {
    32: (1.35, 0.87, 1.57),
    128: (1.40, 1.06, 1.67),
    256: (1.41, 1.12, None),
    1024: (1.43, 1.19, 1.75),
    4096: (1.44, 1.25, None),
    65536: (1.45, 1.32, 1.83),
}
NAMES = ("l_infinity", "top_k", "published", "l1", "consistent", "code")


def positive_mean(at_most):
    """The mean of a random number above zero, from the probability that it is at most x."""
    x = np.linspace(0.0, 9.0, 4001)
    return np.trapezoid(1.0 - at_most(x), x)


def expected_largest(n, k):
    """The mean of the k largest of n magnitudes of normal numbers: the j-th is at most x if fewer than j exceed x."""
    return np.mean([positive_mean(lambda x, j=j: special.bdtr(j, n, special.erfc(x / np.sqrt(2)))) for j in range(k)])


def expected_range(n):
    """Twice the mean of the largest of n normal numbers."""
    return 2 * positive_mean(lambda x: special.ndtr(x) ** n + special.ndtr(-x) ** n)


def expected_estimates(n, chunk):
    constant, root = batch_oracles.largest_constant(n), np.sqrt(2 * np.log(n))
    whole = expected_range(n)
    code = 0.5 * 0.35 * (1 + np.sqrt(np.pi * np.log(4))) / np.sqrt(2 * np.log(chunk))
    largest, ten_largest = (constant * expected_largest(n, k) for k in (1, 10))
    return (largest, ten_largest, whole / root, 1.0, whole / (2 * root), code * expected_range(chunk))


def test_estimates_from_normal_data(rng):
    """Sampled, integrated, and as the specification has measured them: three ways, up to n = 65536."""
    data = (3.0 * rng.standard_normal((65536, 48), np.float32) + 7).reshape(-1)

    @jax.jit
    def run(data):
        found = {}
        for n in (32, 128, 1024, 65536):
            features = min(400, data.size // n)
            x = data[: n * features].reshape(features, n)
            variances = [jn.zoo.lp_batch_norm(x, axis=1, **o)[1].var for o in (L_INFINITY, TOP_K)]
            variances.append(jn.zoo.range_batch_norm(x, axis=1)[1].var)
            if n > 1000:
                variances.append(jn.zoo.lp_batch_norm(x, axis=1, **L1)[1].var)
                variances.append(jn.zoo.range_batch_norm(x, axis=1, constant="consistent")[1].var)
                variances.append(jn.zoo.range_batch_norm(x, axis=1, constant="code", chunks=16)[1].var)
            found[n] = [jnp.mean(jnp.sqrt(var)) / 3 for var in variances]
        return found

    found = run(data)
    assert len(found[65536]) == len(NAMES)
    for n, table in MEASURED.items():
        expected = expected_estimates(n, n // 16)
        for name, got, want in zip(NAMES, found.get(n, ()), expected, strict=False):
            assert float(got) == pytest.approx(want, abs=0.03), (n, name)
        for name, want, measured in zip(NAMES, expected, table, strict=False):
            assert measured is None or want == pytest.approx(measured, abs=0.03), (n, name)
    chunks = [expected_estimates(16 * m, m)[-1] for m in (32, 65536)]
    np.testing.assert_allclose(chunks, [0.85, 0.99], atol=0.01)


def test_constants():
    assert np.isclose(
        batch_oracles.largest_constant(100), 0.5 * (1 + (np.pi * np.log(4)) ** 0.5) / (2 * np.log(100)) ** 0.5
    )
    x = jnp.array([[-1.0], [1.0], [4.0], [-4.0]])
    assert spread_of(jn.zoo.lp_batch_norm, x) == pytest.approx(np.sqrt(np.pi / 2) * 2.5)
    assert spread_of(jn.zoo.lp_batch_norm, x, deviation="top_k", k=99) == pytest.approx(
        2.5 * batch_oracles.largest_constant(4)
    )
    # 0.540 / sqrt(2 ln m), as the specification has it for the code's chunks.
    code = spread_of(jn.zoo.range_batch_norm, x, constant="code", chunks=2)
    assert code == pytest.approx(5.0 * 0.540 / np.sqrt(2 * np.log(2)), rel=1e-3)


def test_epsilon_is_added_to_the_estimate():
    x = jnp.array([[-1e-3], [1e-3]])
    y, _ = jn.zoo.lp_batch_norm(x, epsilon=0.5)
    spread = np.sqrt(np.pi / 2) * 1e-3
    np.testing.assert_allclose(y, np.asarray(x) / (spread + 0.5), rtol=1e-5)
    assert not np.allclose(y, np.asarray(x) / np.sqrt(spread**2 + 0.5), rtol=1e-2)
    for norm in (jn.zoo.LpBatchNorm(), jn.zoo.RangeBatchNorm()):
        np.testing.assert_array_equal(norm(norm.init((1,)), jnp.full((4, 1), 3.0))[0], 0.0)


def test_ties_share_the_derivative():
    """-3, 0, 0, 3: both ends attain the largest deviation, and each has half of its derivative."""

    def largest(x):
        _, measured = jn.zoo.lp_batch_norm(x, **L_INFINITY)
        return jnp.sqrt(measured.var[0]) / batch_oracles.largest_constant(4)

    value, gradient = jax.value_and_grad(largest)(jnp.array([[-3.0], [0.0], [0.0], [3.0]]))
    assert float(value) == pytest.approx(3.0)
    np.testing.assert_allclose(gradient[:, 0], [-0.5, 0.0, 0.0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    "spec", [jn.zoo.LpBatchNorm(**L_INFINITY), jn.zoo.LpBatchNorm(**TOP_K, k=4), jn.zoo.RangeBatchNorm()]
)
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
    chex.assert_trees_all_close(want, got, rtol=1e-7, atol=2e-5)


def test_running_and_population_statistics_are_those_of_the_square(rng):
    x = rng.standard_normal((2, 6, 3)).astype(np.float32)
    norm = jn.zoo.LpBatchNorm(momentum=0.5)
    params = norm.init((3,))
    running, batches = norm.initial_stats((3,)), []
    for batch in x:
        _, measured = norm(params, jnp.asarray(batch))
        running = norm.update_running(running, measured)
        batches.append(measured)
    squares = [[batch_oracles.lp_estimate(np.float64(b[:, f]), "l1") ** 2 for f in range(3)] for b in x]
    np.testing.assert_allclose(running.var, 0.25 + 0.25 * np.array(squares[0]) + 0.5 * np.array(squares[1]), rtol=1e-5)
    population = jn.population(batches, ddof=0)
    np.testing.assert_allclose(population.var, np.mean(squares, 0), rtol=1e-5)
    y, _ = norm(params, jnp.asarray(x[0]), running)
    want = (x[0] - np.asarray(running.mean)) / (np.sqrt(np.asarray(running.var)) + 1e-5)
    np.testing.assert_allclose(y, want, atol=1e-5)


def test_in_a_cell(rng):
    cell = jn.LSTM(
        3, norm=jn.CellNorms(input=jn.zoo.LpBatchNorm(), recurrent=jn.zoo.RangeBatchNorm(constant="consistent"))
    )
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.asarray(rng.standard_normal((4, 5, 2)), jnp.float32)
    out = jn.unroll(cell, params, xs, lengths=jnp.array([4, 2, 0, 3, 4]))
    folded = cell.update_running(cell.initial_stats(), out.moments)
    chex.assert_tree_all_finite((out.outputs, folded))


def test_errors():
    x = jnp.ones((6, 2))
    for make in (lambda: jn.zoo.lp_batch_norm(x, deviation="l2"), lambda: jn.zoo.LpBatchNorm(deviation="l2")):
        with pytest.raises(Exception, match="l2"):
            make()
    with pytest.raises(ValueError, match=r"LpBatchNorm: k must be a positive integer, got 0"):
        jn.zoo.LpBatchNorm(k=0)
    with pytest.raises(ValueError, match=r"chunks=4 must divide the number of elements of each feature, got 6"):
        jn.zoo.range_batch_norm(x, chunks=4)
    with pytest.raises(ValueError, match=r"RangeBatchNorm: chunks=2 is defined for the elements of one array"):
        jn.zoo.RangeBatchNorm(chunks=2, axis_name="data")
    for function in (jn.zoo.lp_batch_norm, jn.zoo.range_batch_norm):
        with pytest.raises(ValueError, match=r"axis_name='data' is not bound here"):
            function(x, axis_name="data")
