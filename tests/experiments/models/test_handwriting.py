"""The mixture of Graves' network: its likelihood and its draws against NumPy, and a line against single steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from experiments.models.handwriting import Params, alone, beside_one, draw, mixture, nats, write

M = 20


@pytest.fixture(autouse=True)
def _ranks_as_users_have_them():
    with jax.numpy_rank_promotion("allow"):
        yield


def parameters(raw: np.ndarray, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and covariances of one mixture, as Graves writes them."""
    rows = raw[1:].reshape(6, -1).astype(np.float64)
    weights = np.exp(rows[0] * (1 + bias)) / np.exp(rows[0] * (1 + bias)).sum()
    deviations, rho = np.exp(rows[3:5] - bias), np.tanh(rows[5])
    covariances = [np.array([[a * a, r * a * b], [r * a * b, b * b]]) for a, b, r in zip(*deviations, rho, strict=True)]
    return weights, rows[1:3].T, np.array(covariances)


def oracle(raw: np.ndarray, point: np.ndarray) -> float:
    density = 0.0
    for weight, mean, covariance in zip(*parameters(raw), strict=True):
        off = point[:2] - mean
        density += weight * np.exp(-0.5 * off @ np.linalg.solve(covariance, off)) / (
            2 * np.pi * np.sqrt(np.linalg.det(covariance))
        )  # fmt: skip
    lifted = 1 / (1 + np.exp(-raw[0].astype(np.float64)))
    return -np.log(density) - np.log(lifted if point[2] else 1 - lifted)


def test_the_likelihood_is_that_of_graves():
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(4, 5, 1 + 6 * M)).astype(np.float32)
    points = generator.normal(size=(4, 5, 3)).astype(np.float32)
    points[..., 2] = generator.integers(0, 2, (4, 5))
    expected = [[oracle(raw[i, j], points[i, j]) for j in range(5)] for i in range(4)]
    np.testing.assert_allclose(nats(mixture(jnp.asarray(raw)), jnp.asarray(points)), expected, rtol=2e-5)


def test_a_correlation_of_nearly_one_has_finite_gradients():
    raw = jnp.zeros(7).at[6].set(12.0)  # tanh(12) is 1 in float32
    value, slope = jax.value_and_grad(lambda raw: nats(mixture(raw), jnp.array([0.3, 0.3, 0.0])))(raw)
    # Along its axis the Gaussian has density 1 / (2 pi sech(12)) exp(-0.3 ** 2 / 2).
    expected = np.log(2 * np.pi) + np.log(1 / np.cosh(12.0)) + 0.045 + np.log(2)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("bias", [0.0, 0.7])
def test_draws_have_the_moments_of_the_mixture(bias):
    raw = np.random.default_rng(1).normal(size=1 + 6 * 3).astype(np.float32)
    found = mixture(jnp.broadcast_to(jnp.asarray(raw), (40_000, len(raw))), bias)
    points = np.asarray(draw(jax.random.key(0), found), np.float64)
    weights, means, covariances = parameters(raw, bias)
    mean = weights @ means
    second = np.einsum("m,mij->ij", weights, covariances + means[:, :, None] * means[:, None])
    covariance = second - np.outer(mean, mean)
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(points[:, :2].mean(0), mean, atol=0.03 * deviation.max())
    np.testing.assert_allclose(np.cov(points[:, :2].T), covariance, atol=0.06 * deviation.max() ** 2)
    np.testing.assert_allclose(points[:, 2].mean(), 1 / (1 + np.exp(-raw[0])), atol=0.02)


@pytest.mark.parametrize("read", [alone, beside_one])
def test_a_written_line_follows_its_own_points(read):
    """With deviations of nearly nothing the network writes its own mean, which reading the line gives again."""
    cell = jn.lstm(4)
    kernel = 0.3 * jax.random.normal(jax.random.key(1), (4, 7))
    features = read(jnp.zeros(3)).size
    params = Params(cell.init(jax.random.key(0), features), kernel.at[:, 4:].set(0.0), jnp.zeros(7).at[4:6].set(-12.0))
    written = write(cell, params, jax.random.key(2), 2, 6, 0.0, read)
    start = jnp.zeros((2, 3)).at[:, 2].set(1.0)
    carry = jn.step(cell, params.cell, None, read(start))[0]
    outputs = jn.unroll(cell, params.cell, read(written[:, :-1]), time_axis=1, carry=carry).outputs
    means = mixture(outputs @ params.kernel + params.bias).mean[..., 0, :]
    np.testing.assert_allclose(written[:, 1:, :2], means, atol=1e-4)


def test_a_constant_beside_the_points_keeps_the_length_of_a_stroke_through_a_layer_norm():
    kernel = np.random.default_rng(2).normal(size=(4, 16)).astype(np.float32)
    short, long = jnp.array([0.1, 0.2, 0.0]), jnp.array([0.4, 0.8, 0.0])

    def normalized(read, point):
        x = read(point)
        return jn.layer_norm(x @ kernel[: x.size], epsilon=0.0)

    np.testing.assert_allclose(normalized(alone, short), normalized(alone, long), atol=1e-5)
    assert np.abs(normalized(beside_one, short) - normalized(beside_one, long)).max() > 0.1
