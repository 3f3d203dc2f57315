"""What is peculiar to Dynamic Tanh: the published values, the gradient of alpha, and that it is no normalizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn


def test_published_values(rng):
    norm = jn.zoo.DynamicTanh()
    params = norm.init((3,))
    assert params.alpha == 0.5
    x = rng.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_allclose(norm(params, jnp.asarray(x))[0], np.tanh(0.5 * x.astype(np.float64)), rtol=1e-6)


def test_gradients_of_all_weights(rng):
    x, cotangent = rng.standard_normal((2, 4, 3))
    alpha, (scale, bias) = 0.8, rng.standard_normal((2, 3))
    args = [jnp.asarray(a, jnp.float32) for a in (x, alpha, scale, bias)]
    _, pull_back = jax.vjp(jn.zoo.dynamic_tanh, *args)
    got = pull_back(jnp.asarray(cotangent, jnp.float32))
    t = np.tanh(alpha * x)
    want = (
        cotangent * scale * alpha * (1 - t**2),
        (cotangent * scale * (1 - t**2) * x).sum(),
        (cotangent * t).sum(0),
        cotangent.sum(0),
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_bfloat16_saturates_like_float32():
    x = jnp.asarray([0.01, 1.0, 3.0, 300.0], jnp.bfloat16)
    y = jn.zoo.dynamic_tanh(x, jnp.asarray(0.5))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float64), np.tanh(0.5 * np.asarray(x, np.float64)), rtol=5e-3)


def test_alpha_is_one_number():
    with pytest.raises(ValueError, match=r"dynamic_tanh: alpha must have shape \(\) = \(\), got \(3,\)"):
        jn.zoo.dynamic_tanh.__wrapped__(jnp.ones((2, 3)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"LSTM: norm.input: DynamicTanh\(.* cannot be used inside a cell"):
        jn.LSTM(4, norm=jn.zoo.DynamicTanh())
