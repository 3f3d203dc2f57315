"""What is peculiar to batch normalization: Algorithms 1 and 2, gradients through the statistics, composition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def test_any_axes_against_algorithm_1_in_double_precision(rng, x64):
    x = rng.standard_normal((4, 3, 5)) * 3 + 1
    mask = rng.random(x.shape) < 0.7
    axes, shapes = [None, 0, (0, 1), (2, 0), (0, 1, 2), -1], [(5,), (3, 5), (5,), (3,), (), (4, 3)]
    params = [[rng.standard_normal(shape) for _ in range(2)] for shape in shapes]

    @jax.jit
    def run(x, params, mask):
        both = zip(axes, params, strict=True)
        return [[jn.batch_norm(x, *p, axis=axis, where=where)[0] for where in (None, mask)] for axis, p in both]

    for axis, p, ys in zip(axes, params, run(x, params, mask), strict=True):
        for where, y in zip((None, mask), ys, strict=True):
            np.testing.assert_allclose(y, oracles.batch_norm(x, *p, axis=axis, where=where), rtol=1e-11, atol=1e-11)


def test_gradient_flows_through_the_batch_statistics(rng):
    # With x_hat = (x - mean)/s and u = scale * dL/dy, over the batch: dL/dx = (u - mean(u) - x_hat mean(u x_hat)) / s.
    x, scale, bias, cotangent = (rng.standard_normal(shape) for shape in ((5, 3), 3, 3, (5, 3)))
    s = np.sqrt(x.var(0) + 1e-5)
    x_hat = (x - x.mean(0)) / s
    u = scale * cotangent
    through = (u - u.mean(0) - x_hat * (u * x_hat).mean(0)) / s
    frozen = jn.Moments(*(jnp.asarray(m, jnp.float32) for m in (x.mean(0), x.var(0), 5.0)))

    @jax.jit
    def run(*args):
        def pulled(moments):
            y, pull_back = jax.vjp(lambda *args: jn.batch_norm(*args, moments=moments)[0], *args)
            return y, pull_back(jnp.asarray(cotangent, jnp.float32))

        return pulled(None), pulled(frozen)

    (y, training), (same, inference) = run(*(jnp.asarray(a, jnp.float32) for a in (x, scale, bias)))
    np.testing.assert_allclose(y, x_hat * scale + bias, atol=2e-5)
    np.testing.assert_allclose(y, same, atol=2e-5)
    np.testing.assert_allclose(training[0], through, atol=2e-5)
    np.testing.assert_allclose(inference[0], u / s, atol=2e-5)
    for gradients in (training, inference):
        np.testing.assert_allclose(gradients[1], (cotangent * x_hat).sum(0), atol=2e-5)
        np.testing.assert_allclose(gradients[2], cotangent.sum(0), atol=2e-5)


def test_scaling_the_weights_before_it(rng):
    # BN((aW)u) = BN(Wu); its gradient in u is the same, in aW it is smaller by a.
    u, w = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)

    @jax.jit
    def run(w, u):
        y, pull_back = jax.vjp(lambda w, u: jn.batch_norm(u @ w, epsilon=1e-12)[0], w, u)
        return y, *pull_back(jnp.cos(y))

    (y, dw, du), (y_scaled, dw_scaled, du_scaled) = run(w, u), run(8.0 * w, u)
    np.testing.assert_allclose(y_scaled, y, atol=1e-5)
    np.testing.assert_allclose(du_scaled, du, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(8.0 * dw_scaled, dw, rtol=1e-4, atol=1e-5)


def test_inference_uses_what_it_is_given(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    params = jn.Affine(*(jnp.asarray(rng.standard_normal(3), jnp.float32) for _ in range(2)))
    running = jn.Moments(*(jnp.asarray(m, jnp.float32) for m in (rng.standard_normal(3), rng.uniform(0.5, 2, 3), 9.0)))
    mask = np.array([True, True, False, True])[:, None]
    poisoned = jnp.asarray(np.where(mask, x, np.nan))
    spec = jn.BatchNorm(epsilon=1e-3)
    y, used = spec(params, poisoned, running, jnp.asarray(mask))
    scale, bias, mean, var = (np.asarray(leaf, np.float64) for leaf in (*params, running.mean, running.var))
    # Algorithm 2: one linear map of x.
    slope = scale / np.sqrt(var + 1e-3)
    np.testing.assert_allclose(y, np.where(mask, slope * x + (bias - slope * mean), 0.0), atol=2e-5)
    for a, b in zip(used, running, strict=True):
        np.testing.assert_array_equal(a, b)
    # A row alone gives what it gives in the batch.
    np.testing.assert_allclose(spec(params, jnp.asarray(x[0]), running)[0], y[0], atol=1e-6)


def test_the_spec_folds_by_its_own_rule(rng):
    running = jn.BatchNorm().initial_stats((2,))
    measured = jn.moments(jnp.asarray(rng.standard_normal((4, 2)), jnp.float32))
    for momentum, ddof in ((0.9, 1), (0.5, 0), (None, 0)):
        got = jn.BatchNorm(momentum=momentum, ddof=ddof).update_running(running, measured)
        want = jn.update_running(running, measured, momentum=momentum, ddof=ddof)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


def test_ghost_batches_are_a_vmap(rng):
    # Ghost batch normalization needs no option: parts of the batch are mapped, their statistics merged.
    x = rng.standard_normal((3, 4, 2)).astype(np.float32)
    y, parts = jax.jit(jax.vmap(jn.batch_norm))(x)
    whole = functools.reduce(jn.merge, [jax.tree.map(lambda leaf, k=k: leaf[k], parts) for k in range(3)])
    for part in range(3):
        np.testing.assert_allclose(y[part], oracles.batch_norm(x[part]), atol=2e-5)
    mean, var, count = oracles.moments(x)
    np.testing.assert_allclose(whole.mean, mean, atol=1e-5)
    np.testing.assert_allclose(whole.var, var, atol=1e-5)
    assert whole.count == count[0]


def test_only_the_default_axis_fits_into_a_cell():
    jn.BatchNorm().check_site("LSTM")
    with pytest.raises(ValueError, match=r"LSTM: BatchNorm\(axis=0.* Leave axis at None"):
        jn.BatchNorm(0).check_site("LSTM")


def test_a_constant_feature_without_epsilon_gives_the_bias():
    x, scale, bias = jnp.array([[5.0, 1.0], [5.0, 3.0]]), jnp.array([2.0, 3.0]), jnp.array([0.5, -1.0])
    (y, _), pull_back = jax.vjp(lambda *args: jn.batch_norm(*args, epsilon=0.0), x, scale, bias)
    np.testing.assert_array_equal(y, [[0.5, -4.0], [0.5, 2.0]])
    dx, dscale, dbias = pull_back((jnp.array([[1.0, 2.0], [3.0, 4.0]]), jn.Moments(jnp.zeros(2), jnp.zeros(2), 0.0)))
    np.testing.assert_array_equal(dx[:, 0], [0.0, 0.0])
    np.testing.assert_allclose((dscale, dbias), [[0.0, 2.0], [4.0, 6.0]], atol=1e-6)
