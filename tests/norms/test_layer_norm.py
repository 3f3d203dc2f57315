"""What is peculiar to layer normalization: equations 3, 15, 16 of Ba et al., any axes, spread over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def test_any_axes_against_the_equations_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 3, 4)) * 3 + 1
    mask = rng.random(x.shape) < 0.7
    axes = [-1, 0, (1, 2), (2, 0), (0, 1, 2)]
    epsilons = [1e-5, 0.0, 0.5]
    shapes = [tuple(np.sort(np.atleast_1d(np.mod(axis, 3)))) for axis in axes]
    params = [[rng.standard_normal([x.shape[a] for a in shape]) for _ in range(2)] for shape in shapes]

    @jax.jit
    def run(x, params, mask):
        plain = [
            jn.layer_norm(x, *p, axis=axis, epsilon=epsilon)
            for (axis, p), epsilon in zip(zip(axes, params, strict=True), epsilons + epsilons[:2], strict=True)
        ]
        return plain, [jn.layer_norm(x, *p, axis=axis, where=mask) for axis, p in zip(axes, params, strict=True)]

    plain, under_mask = run(x, params, mask)
    for axis, p, epsilon, y in zip(axes, params, epsilons + epsilons[:2], plain, strict=True):
        np.testing.assert_allclose(y, oracles.layer_norm(x, *p, axis=axis, epsilon=epsilon), rtol=1e-11, atol=1e-11)
    for axis, p, y in zip(axes, params, under_mask, strict=True):
        np.testing.assert_allclose(y, oracles.layer_norm(x, *p, axis=axis, where=mask), rtol=1e-11, atol=1e-11)


def test_gradient_is_the_closed_form(rng):
    # With x_hat = (x - mean)/s and u = scale * dL/dy: dL/dx = (u - mean(u) - x_hat mean(u x_hat)) / s.
    x, scale, bias, cotangent = (rng.standard_normal(shape) for shape in ((3, 6), 6, 6, (3, 6)))
    epsilon = 0.1
    s = np.sqrt(x.var(1, keepdims=True) + epsilon)
    x_hat = (x - x.mean(1, keepdims=True)) / s
    u = scale * cotangent
    want = (u - u.mean(1, keepdims=True) - x_hat * (u * x_hat).mean(1, keepdims=True)) / s

    @jax.jit
    def gradients(*args):
        return jax.vjp(lambda *args: jn.layer_norm(*args, epsilon=epsilon), *args)[1](
            jnp.asarray(cotangent, jnp.float32)
        )

    got = gradients(*(jnp.asarray(a, jnp.float32) for a in (x, scale, bias)))
    for a, b in zip(got, (want, (cotangent * x_hat).sum(0), cotangent.sum(0)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_features_spread_over_a_named_axis(rng):
    # Four members hold two features each, with their parts of scale and bias; the mask leaves one member nothing.
    x = rng.standard_normal((3, 4, 2)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 4, 2)).astype(np.float32)
    mask = rng.random(x.shape) < 0.7
    mask[:, 1] = False

    @jax.jit
    def run(x, scale, bias, mask):
        def member(x, scale, bias, mask):
            return jn.layer_norm(x, scale, bias, where=mask, axis_name="features")

        spread = jax.vmap(member, in_axes=(1, 0, 0, 1), out_axes=1, axis_name="features")
        y, pull_back = jax.vjp(lambda x: spread(x, scale, bias, mask), x)
        whole, pull_back_whole = jax.vjp(lambda x: jn.layer_norm(x, scale, bias, axis=(1, 2), where=mask), x)
        return (y, *pull_back(jnp.sin(y))), (whole, *pull_back_whole(jnp.sin(whole)))

    (y, gradient), (whole, whole_gradient) = run(np.where(mask, x, np.nan), scale, bias, mask)
    np.testing.assert_allclose(y, oracles.layer_norm(x, scale, bias, axis=(1, 2), where=mask), atol=2e-5)
    np.testing.assert_allclose(y, whole, atol=1e-5)
    np.testing.assert_allclose(gradient, whole_gradient, atol=1e-5)


def test_scale_and_bias_of_each_example(rng):
    # Adaptive layer normalization: an array with as many axes as x is not aligned but broadcast.
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    scale, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 1, 4), (2, 3, 1)))
    got = jn.layer_norm(jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias))
    np.testing.assert_allclose(got, oracles.layer_norm(x) * scale + bias, atol=2e-5)


def test_only_the_last_axis_fits_into_a_cell():
    jn.LayerNorm(axis=(-1,)).check_site("LSTM")
    with pytest.raises(ValueError, match=r"LSTM: LayerNorm\(axis=\(0, 1\).* cannot be used inside a cell.*axis=-1"):
        jn.LayerNorm(axis=(0, 1)).check_site("LSTM")


def test_initial_values_can_be_chosen():
    params = jn.LayerNorm(scale_init=0.1, bias_init=-2.0).init((3,))
    np.testing.assert_allclose(params.scale, [0.1] * 3)
    np.testing.assert_allclose(params.bias, [-2.0] * 3)


def test_data_that_no_cache_holds_are_normalized_as_exactly(rng):
    x = (rng.standard_normal((1024, 1024)) + 1e4).astype(np.float32)
    cotangent = rng.standard_normal(x.shape).astype(np.float32)
    exact = x.astype(np.float64)
    s = np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    exact = (exact - exact.mean(1, keepdims=True)) / s
    y, pull_back = jax.jit(lambda x, d: (jn.layer_norm(x), jax.vjp(jn.layer_norm, x)[1](d)[0]))(x, cotangent)
    np.testing.assert_allclose(y, exact, atol=2e-6)
    slope = cotangent - cotangent.mean(1, keepdims=True) - exact * (exact * cotangent).mean(1, keepdims=True)
    np.testing.assert_allclose(pull_back, slope / s, atol=1e-5)
