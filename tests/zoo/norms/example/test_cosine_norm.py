"""Cosine normalization: the equation in both forms, masks, gradients without direction, the spec."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnorm as jn


def oracle(x, kernel, scale, centered, epsilon, where=None):
    """An output after the other, in NumPy and float64; of an example only its real features are seen."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    keep = np.ones(x.shape, bool) if where is None else np.broadcast_to(where, x.shape)
    out = np.zeros((*x.shape[:-1], kernel.shape[1]))
    for place in np.ndindex(out.shape):
        real = keep[place[:-1]]
        v, w = x[place[:-1]][real], kernel[:, place[-1]]
        if centered and v.size:
            v, w = v - v.mean(), w - w.mean()
        out[place] = scale * (v @ w[real]) / (np.sqrt((v**2).sum()) * np.sqrt((w**2).sum()) + epsilon)
    return out


@pytest.mark.parametrize("centered", [False, True])
def test_both_forms_against_the_equation_in_double_precision(centered, rng, x64):
    x, kernel = rng.standard_normal((2, 3, 5)) + 1, rng.standard_normal((5, 4)) + 0.5
    for mask in (None, jnp.asarray(rng.random((2, 3, 5)) < 0.6), jnp.asarray(rng.random((2, 3, 1)) < 0.6)):
        data = x if mask is None else np.where(mask, x, np.nan)
        y = jn.zoo.cosine_norm(
            jnp.asarray(data), jnp.asarray(kernel), jnp.asarray(1.3), centered=centered, epsilon=0.01, where=mask
        )
        np.testing.assert_allclose(y, oracle(x, kernel, 1.3, centered, 0.01, mask), rtol=1e-11, atol=1e-12)


def test_bounded_and_blind_to_lengths(rng):
    x, kernel = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((6, 5), (5, 4)))
    y = jn.zoo.cosine_norm(x, kernel, epsilon=0.0)
    assert np.abs(y).max() <= 1 + 1e-6
    np.testing.assert_allclose(jn.zoo.cosine_norm(3 * x, 7 * kernel, epsilon=0.0), y, atol=1e-6)
    np.testing.assert_allclose(jn.zoo.cosine_norm(kernel.T, kernel, epsilon=0.0).diagonal(), 1.0, rtol=1e-6)
    correlation = jn.zoo.cosine_norm(x, kernel, centered=True, epsilon=0.0)
    want = np.corrcoef(np.asarray(x, np.float64), np.asarray(kernel.T, np.float64))[:6, 6:]
    np.testing.assert_allclose(correlation, want, atol=1e-5)
    np.testing.assert_allclose(
        jn.zoo.cosine_norm(x + 2, kernel - 3, centered=True, epsilon=0.0), correlation, atol=1e-5
    )


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_what_has_no_direction_has_finite_gradients(epsilon, rng):
    x = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32).at[1].set(0.0)
    kernel = jnp.asarray(rng.standard_normal((4, 2)), jnp.float32).at[:, 1].set(0.0)
    mask = jnp.asarray([[True], [True], [False]])

    def loss(x, kernel):
        y = jn.zoo.cosine_norm(x, kernel, epsilon=epsilon, where=mask)
        return jnp.sum(jnp.sin(y + 0.3)), y

    (_, y), slopes = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x.at[2].set(jnp.nan), kernel)
    assert not np.asarray(y)[1:].any()
    assert not np.asarray(y)[:, 1].any()
    chex.assert_tree_all_finite(slopes)
    assert not np.asarray(slopes[0])[2].any()


def test_gradients_against_finite_differences(rng, x64):
    x, kernel = (jnp.asarray(rng.standard_normal(shape)) for shape in ((3, 4), (4, 2)))
    check_grads(jax.jit(lambda x, w: jn.zoo.cosine_norm(x, w, centered=True)), (x, kernel), order=1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes_and_transformations(dtype, rng):
    x, kernel = jnp.asarray(300 * rng.standard_normal((3, 4)), dtype), jnp.asarray(rng.standard_normal((4, 2)), dtype)
    y = jn.zoo.cosine_norm(x, kernel)
    assert y.dtype == x.dtype
    want = oracle(np.asarray(x, np.float64), np.asarray(kernel, np.float64), 1.0, False, 1e-5)
    np.testing.assert_allclose(np.asarray(y, np.float64), want, atol=1e-6 if dtype == "float32" else 5e-3)
    each = jax.jit(jax.vmap(jn.zoo.cosine_norm, in_axes=(0, None)))(x, kernel)
    np.testing.assert_allclose(np.asarray(each, np.float32), np.asarray(y, np.float32), atol=1e-6)


def test_spec_is_a_value_and_applies_its_weights(rng):
    layer = jn.zoo.CosineNorm(3, centered=True, use_scale=True, scale_init=20.0)
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert len({layer, jn.zoo.CosineNorm(3, centered=True, use_scale=True, scale_init=20.0), jn.zoo.CosineNorm(3)}) == 2
    assert not isinstance(layer, jn.Normalizer)
    params = layer.init(jax.random.key(0), 5)
    x = jnp.asarray(rng.standard_normal((2, 5)), jnp.float32)
    np.testing.assert_allclose(layer(params, x), oracle(x, params.kernel, 20.0, True, 1e-5), rtol=2e-5, atol=2e-5)
    assert jn.zoo.CosineNorm(3).init(jax.random.key(0), 5).scale is None


def test_errors():
    with pytest.raises(ValueError, match=r"cosine_norm: kernel must have shape \(I, F\) .*, got \(3, 2\)"):
        jn.zoo.cosine_norm.__wrapped__(jnp.ones((2, 4)), jnp.ones((3, 2)))
    with pytest.raises(TypeError, match=r"CosineNorm: params must be CosineParams\(kernel, scale\)"):
        jn.zoo.CosineNorm(2).__call__.__wrapped__(jn.zoo.CosineNorm(2), (), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"CosineNorm: features must be a positive integer, got 0"):
        jn.zoo.CosineNorm(0)
