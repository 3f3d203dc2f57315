"""What is peculiar to divisive normalization: windows and edges, the published divisor, its limits, its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles
from tests.zoo.norms import row_oracles


def test_any_windows_against_the_equation_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 5, 4, 6)) + 0.5
    mask = jnp.asarray(rng.random(x.shape) < 0.7)
    specs = [
        jn.zoo.DivisiveNorm(1, suppression_window=6),
        jn.zoo.DivisiveNorm(50, sigma=0.01),
        jn.zoo.DivisiveNorm((2, 5), suppression_window=3, axis=(1, 2)),
        jn.zoo.DivisiveNorm(3, axis=(3, 2), feature_axis=1, use_learned_sigma=True),
        jn.zoo.DivisiveNorm((2, 3, 4), axis=(-1, 1, 2)),
    ]
    params = [
        jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), s.init(s.param_shape(x.shape), jnp.float64)
        )
        for s in specs
    ]
    ys = jax.jit(lambda ps, x: [[s(p, x, None, w)[0] for w in (None, mask)] for s, p in zip(specs, ps, strict=True)])(
        params, x
    )
    for spec, p, pair in zip(specs, params, ys, strict=True):
        for where, y in zip((None, mask), pair, strict=True):
            np.testing.assert_allclose(y, oracles.of_spec(spec, p, x, where), rtol=1e-11, atol=1e-11)


def test_edges_keep_the_divisor():
    # At the left edge a window of 3 has two elements and still divides by 3.
    v = jn.zoo.local_deviation(jnp.array([6.0, 0.0, 0.0, 3.0]), window=3)
    np.testing.assert_allclose(v, [4.0, -2.0, -1.0, 2.0], rtol=1e-6)
    # A window of even length reaches one further to the right.
    v = jn.zoo.local_deviation(jnp.array([6.0, 0.0, 0.0, 3.0]), window=2)
    np.testing.assert_allclose(v, [3.0, 0.0, -1.5, 1.5], rtol=1e-6)


def test_published_divisor_of_the_suppression_window(rng):
    # The published code divides the sum over B by the size of A.
    x = rng.standard_normal((3, 9))
    data = x - row_oracles.local_mean(x, {1: 4})
    published = data / np.sqrt(0.3**2 + row_oracles.local_mean(data**2, {1: 6}) * 6 / 4)
    ratio = np.sqrt(4 / 6)
    ours = jn.zoo.divisive_norm(
        jnp.asarray(x, jnp.float32), jnp.full(9, ratio), window=4, suppression_window=6, sigma=0.3 * ratio
    )
    np.testing.assert_allclose(ours, published, rtol=2e-5, atol=2e-6)
    differs = jn.zoo.divisive_norm(jnp.asarray(x, jnp.float32), window=4, suppression_window=6, sigma=0.3)
    assert np.abs(np.asarray(differs) - published).max() > 1e-2


def test_a_window_over_the_whole_layer_in_its_middle_is_layer_normalization(rng):
    # Centered on the middle of 5 units a window of 5 sees them all; those at the edge see less.
    x = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    v = jn.zoo.local_deviation(x, window=5)
    np.testing.assert_allclose(v[:, 2], x[:, 2] - np.asarray(x).mean(1), atol=1e-6)


def test_gradient_of_the_loss_on_deviations(rng):
    x = jnp.asarray(rng.standard_normal(5), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(jnp.abs(jn.zoo.local_deviation(x, window=3))))(x)
    average = np.array([[1 / 3 if abs(i - j) <= 1 else 0 for j in range(5)] for i in range(5)])
    v = np.asarray(x) - average @ np.asarray(x)
    np.testing.assert_allclose(gradient, (np.eye(5) - average).T @ np.sign(v), atol=1e-6)


def test_a_learned_sigma_of_zero_divides_nothing_by_zero():
    y, slope = jax.value_and_grad(lambda s: jnp.sum(jn.zoo.divisive_norm(jnp.zeros((2, 3)), window=3, sigma=s)))(
        jnp.asarray(0.0)
    )
    assert y == 0
    assert np.isfinite(slope)


def test_sites_and_errors():
    jn.LSTM(4, norm=jn.zoo.DivisiveNorm(3))
    with pytest.raises(ValueError, match=r"GRU: DivisiveNorm\(.* use_learned_sigma=False"):
        jn.zoo.DivisiveNorm(3, use_learned_sigma=True).check_site("GRU")
    with pytest.raises(ValueError, match=r"divisive_norm: window=\(3, 3\) must have a length for each of the 1 axes"):
        jn.zoo.divisive_norm(jnp.ones((2, 3)), window=(3, 3))
    with pytest.raises(ValueError, match=r"DivisiveNorm: sigma must be above zero and finite, got 0"):
        jn.zoo.DivisiveNorm(sigma=0.0)
    with pytest.raises(ValueError, match=r"DivisiveNorm: suppression_window must be a positive integer, got 0"):
        jn.zoo.DivisiveNorm(suppression_window=0)
    assert jn.zoo.DivisiveNorm((3, 2), axis=(0, 1)) != jn.zoo.DivisiveNorm((3, 2), axis=(1, 0))
