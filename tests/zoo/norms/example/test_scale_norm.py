"""What is peculiar to scale normalization: the bound on the norm, one number as scale, and its kinship with RMSNorm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn


def test_code_bounds_the_norm_and_paper_does_not(rng):
    # In the paper x / |x|; in its code x / max(|x|, 1e-5). They part below epsilon only.
    x = rng.standard_normal((4, 6)).astype(np.float32)
    x *= np.array([1e-7, 1e-4, 1.0, 1e27], np.float32)[:, None]
    norm = np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True))
    scale = jnp.asarray(1.7)
    code = jn.zoo.scale_norm(jnp.asarray(x), scale)
    np.testing.assert_allclose(code, 1.7 * x / np.maximum(norm, 1e-5), rtol=1e-5)
    paper = jn.zoo.scale_norm(jnp.asarray(x), scale, epsilon=0.0)
    np.testing.assert_allclose(paper, 1.7 * x / norm, rtol=1e-5)
    assert np.abs(code[0]).max() < 0.1 * np.abs(paper[0]).max()
    # Adding, not bounding, would show in the second row.
    np.testing.assert_allclose(code[1:], paper[1:], rtol=1e-6)


def test_gradient_of_short_and_long_examples():
    # Below the bound y = x / epsilon, of slope 1 / epsilon; above it the projection (I - u u^T) / |x|.
    slope = jax.jit(jax.jacrev(lambda x: jn.zoo.scale_norm(x, epsilon=0.5)))
    np.testing.assert_allclose(slope(jnp.array([0.1, 0.2])), 2 * np.eye(2), rtol=1e-6)
    np.testing.assert_allclose(slope(jnp.zeros(2)), 2 * np.eye(2), rtol=1e-6)
    u = np.array([0.6, 0.8])
    np.testing.assert_allclose(slope(jnp.array([3.0, 4.0])), (np.eye(2) - np.outer(u, u)) / 5, atol=1e-6)


def test_fresh_weights_make_it_rms_normalization(rng):
    x = jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)
    norm = jn.zoo.ScaleNorm(epsilon=0.0)
    y, _ = norm(norm.init((5,)), x)
    np.testing.assert_allclose(y, jn.rms_norm(x, epsilon=0.0), rtol=1e-5)


def test_features_spread_over_a_named_axis(rng):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    spread = jax.vmap(lambda x: jn.zoo.scale_norm(x, axis_name="f"), in_axes=1, out_axes=1, axis_name="f")
    got = jax.jit(spread)(x.reshape(3, 4, 2)).reshape(3, 8)
    np.testing.assert_allclose(got, x / np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True)), atol=2e-6)


def test_one_number_does_not_fit_a_cell(rng):
    with pytest.raises(ValueError, match=r"LSTM: norm.input: ScaleNorm\(.* cannot be used inside a cell.* RMSNorm\(\)"):
        jn.LSTM(4, norm=jn.zoo.ScaleNorm())
    with pytest.raises(ValueError, match=r"GRU: ScaleNorm\(axis=0.* Use axis=-1"):
        jn.zoo.ScaleNorm(0, use_scale=False).check_site("GRU")
    cell = jn.GRU(4, norm=jn.zoo.ScaleNorm(use_scale=False))
    xs = jnp.asarray(rng.standard_normal((3, 2, 5)), jnp.float32)
    params = cell.init(jax.random.key(0), 5)
    outputs = jn.unroll(cell, params, xs).outputs
    # The scale apart (the root of the number of features, r and z sharing statistics) it is the RMS-GRU's norm.
    scaled = cell.init(jax.random.key(0), 5)
    gains = jn.Affine(jnp.repeat(1 / jnp.sqrt(jnp.array([8.0, 8.0, 4.0])), 4), None)
    rms = jn.GRU(4, norm=jn.RMSNorm(epsilon=0.0))
    scaled = rms.init(jax.random.key(0), 5)
    scaled = scaled._replace(norm=jn.CellNorms(gains, gains, ()))
    np.testing.assert_allclose(outputs, jn.unroll(rms, scaled, xs).outputs, atol=1e-5)
