"""Batch normalization in narrow formats, against NumPy's own arrays of these formats."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jaxnorm as jn
from experiments.models.rounded_norm import RoundedBatchNorm, nearest, total

FORMATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float8_e5m2": ml_dtypes.float8_e5m2}


def column_sums(x):
    """One after the other within each block, then block after block."""
    length = int(np.sqrt(len(x))) + 1
    total = np.zeros_like(x[0])
    for begin in range(0, len(x), length):
        block = np.zeros_like(x[0])
        for row in x[begin : begin + length]:
            block = block + row
        total = total + block
    return total


def oracle(x, scale, bias, deviation, dtype, epsilon=1e-5):
    """All of it in arrays of the format; NumPy rounds each result."""
    x, scale, bias, epsilon = (np.asarray(a, np.float32).astype(dtype) for a in (x, scale, bias, epsilon))
    count, one = np.asarray(len(x), np.float32).astype(dtype), np.asarray(1.0, np.float32).astype(dtype)
    d = x - (column_sums(x) / count)[None]
    if deviation == "l2":
        s = np.sqrt(column_sums(d * d) / count + epsilon)
    elif deviation == "l1":
        s = column_sums(np.abs(d)) / count * np.asarray((np.pi / 2) ** 0.5, np.float32).astype(dtype) + epsilon
    else:
        constant = np.asarray((8 * np.log(len(x))) ** -0.5, np.float32).astype(dtype)
        s = (x.max(0) - x.min(0)) * constant + epsilon
    return (d * (one / s)[None] * scale[None] + bias[None]).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_nearest_number_of_a_format(name):
    rng = np.random.default_rng(0)
    x = np.concatenate([
        rng.normal(size=500) * 10.0 ** rng.integers(-9, 9, 500),
        [0.0, -0.0, np.inf, -np.inf, 65504.0, 65520.0, 57344.0, 61440.0, 61439.0, 2.0**-24, 2.0**-25, 2.0**-16, 1e-5],
    ]).astype(np.float32)  # fmt: skip
    with np.errstate(over="ignore"):
        expected = x.astype(FORMATS[name]).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(nearest(jnp.asarray(x), name)), expected)
    assert np.isnan(nearest(jnp.float32(np.nan), name))


@pytest.mark.parametrize("name", FORMATS)
def test_sums_round_each_partial_sum(name):
    x = np.random.default_rng(1).normal(1.0, 1.0, (37, 3)).astype(np.float32).astype(FORMATS[name])
    got = total(jnp.asarray(x.astype(np.float32)), name)
    np.testing.assert_array_equal(np.asarray(got), column_sums(x).astype(np.float32))
    assert np.any(np.asarray(got) != x.astype(np.float32).sum(0))


@pytest.mark.parametrize("deviation", ["l2", "l1", "range"])
@pytest.mark.parametrize("name", FORMATS)
def test_output_is_that_of_arithmetic_in_the_format(name, deviation):
    rng = np.random.default_rng(2)
    x = rng.normal(0.3, [1.0, 2.0, 0.1], (4, 8, 3)).astype(np.float32)
    params = jn.Affine(jnp.asarray([0.7, -1.3, 2.1]), jnp.asarray([0.4, 0.0, -0.2]))
    norm = RoundedBatchNorm(deviation=deviation, dtype=name)
    y, measured = norm(params, jnp.asarray(x))
    expected = oracle(x.reshape(-1, 3), params.scale, params.bias, deviation, FORMATS[name])
    np.testing.assert_array_equal(np.asarray(y).reshape(-1, 3), expected)
    again, _ = norm(params, jnp.asarray(x), measured)  # the root of a rounded square may be a neighbor
    np.testing.assert_allclose(again, y, rtol=4 * float(jnp.finfo(name).eps), atol=4 * float(jnp.finfo(name).eps))


def test_sum_of_squares_overflows_where_absolute_values_do_not():
    x = jnp.asarray(np.random.default_rng(3).normal(0, 30.0, (256, 1)).astype(np.float32))  # squares sum to 230,000
    params = jn.Affine(jnp.ones(1), jnp.zeros(1))
    stds = [float(RoundedBatchNorm(deviation=d, dtype="float16")(params, x)[0].std()) for d in ("l2", "l1")]
    assert stds[0] == 0.0
    assert abs(stds[1] - 1) < 0.1


PEERS = {
    "l2": jn.BatchNorm(),
    "l1": jn.zoo.LpBatchNorm(),
    "range": jn.zoo.RangeBatchNorm(constant="consistent"),
}


@pytest.mark.parametrize("deviation", PEERS)
def test_without_rounding_it_is_the_librarys(deviation):
    rng = np.random.default_rng(4)
    x, weights = (jnp.asarray(rng.normal(size=(6, 4, 3)).astype(np.float32)) for _ in range(2))
    params = jn.Affine(jnp.asarray([0.7, -1.3, 2.1]), jnp.asarray([0.4, 0.0, -0.2]))

    def of(norm):
        def objective(params, x):
            y, stats = norm(params, x)
            return jnp.sum(jnp.sin(y) * weights), (y, stats)

        return jax.grad(objective, argnums=(0, 1), has_aux=True)(params, x)

    got, expected = of(RoundedBatchNorm(deviation=deviation, dtype="float32")), of(PEERS[deviation])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), got, expected)


def test_gradients_are_numbers_of_the_format():
    rng = np.random.default_rng(5)
    x, weights = (jnp.asarray(rng.normal(size=(32, 3)).astype(np.float32)) for _ in range(2))
    params = jn.Affine(jnp.asarray([0.7, -1.3, 2.1]), jnp.asarray([0.4, 0.0, -0.2]))
    norm = RoundedBatchNorm(deviation="l1", dtype="float8_e5m2")
    gradients = jax.grad(lambda p, x: jnp.sum(norm(p, x)[0] * weights), argnums=(0, 1))(params, x)
    for leaf in jax.tree.leaves(gradients):
        np.testing.assert_array_equal(leaf, nearest(leaf, "float8_e5m2"))
    rows = np.asarray(weights).astype(ml_dtypes.float8_e5m2)
    np.testing.assert_array_equal(gradients[0].bias, column_sums(rows).astype(np.float32))  # summed in the format


def test_masks_are_refused():
    with pytest.raises(ValueError, match="where must be None"):
        RoundedBatchNorm()(jn.Affine(jnp.ones(3), jnp.zeros(3)), jnp.ones((4, 3)), where=jnp.ones((4, 1), bool))
