"""What is peculiar to batch renormalization: limits and their schedule, its derivative, averages of the deviation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles
from tests.tools.peers import import_peer, lenient
from tests.zoo.norms import batch_oracles


def drawn(rng, features=3):
    running = jn.Moments(
        jnp.asarray(rng.standard_normal(features), jnp.float32),
        jnp.asarray(rng.uniform(0.5, 2.0, features), jnp.float32),
        jnp.asarray(5.0),
    )
    scale, bias = (jnp.asarray(v, jnp.float32) for v in rng.standard_normal((2, features)))
    return jnp.asarray(2 * rng.standard_normal((6, features)) + 1, jnp.float32), scale, bias, running


@pytest.mark.parametrize(("r_max", "d_max"), [(1.2, 0.3), (3, 5), (np.inf, np.inf), (1.0, 0.0)])
def test_limits_against_algorithm_1(rng, r_max, d_max):
    x, scale, bias, running = drawn(rng)
    y, measured = jax.jit(jn.zoo.batch_renorm)(x, scale, bias, running=running, r_max=r_max, d_max=d_max)
    want = batch_oracles.batch_renorm(np.float64(x), scale, bias, running, r_max=r_max, d_max=d_max)
    np.testing.assert_allclose(y, want, atol=2e-5)
    for a, b in zip(measured, jn.moments(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    frozen, _ = jn.batch_norm(x, scale, bias, moments=running, epsilon=1e-3)
    plain, _ = jn.batch_norm(x, scale, bias, epsilon=1e-3)
    # Where no limit is reached training is inference; with 1 and 0 it is batch normalization; else neither.
    assert np.allclose(y, frozen, atol=2e-5) == (r_max >= 3)
    assert np.allclose(y, plain, atol=2e-5) == (r_max == 1.0)


def test_no_gradient_through_the_corrections(rng):
    # With x_hat = (x - mean_B)/sigma_B, u = scale * r * dL/dy: dL/dx = (u - mean(u) - x_hat mean(u x_hat)) / sigma_B.
    x, scale, bias, running = drawn(rng)
    cotangent = rng.standard_normal(x.shape).astype(np.float32)

    @jax.jit
    def run(x, scale, bias, running):
        def f(x, scale, bias, mean):
            return jn.zoo.batch_renorm(x, scale, bias, running=running._replace(mean=mean), r_max=1.2, d_max=0.5)[0]

        return jax.vjp(f, x, scale, bias, running.mean)[1](jnp.asarray(cotangent))

    dx, dscale, dbias, drunning = run(x, scale, bias, running)
    x64 = np.float64(x)
    sigma_b, sigma = np.sqrt(x64.var(0) + 1e-3), np.sqrt(np.float64(running.var) + 1e-3)
    r = np.clip(sigma_b / sigma, 1 / 1.2, 1.2)
    d = np.clip((x64.mean(0) - np.asarray(running.mean)) / sigma, -0.5, 0.5)
    x_hat, u = (x64 - x64.mean(0)) / sigma_b, np.asarray(scale) * r * cotangent
    np.testing.assert_allclose(dx, (u - u.mean(0) - x_hat * (u * x_hat).mean(0)) / sigma_b, atol=2e-5)
    np.testing.assert_allclose(dscale, (cotangent * (x_hat * r + d)).sum(0), atol=2e-5)
    np.testing.assert_allclose(dbias, cotangent.sum(0), atol=2e-5)
    assert not np.asarray(drunning).any()


def test_schedule_of_the_paper():
    limits = jax.jit(jax.vmap(jn.zoo.renorm_limits))(jnp.array([0, 5_000, 15_000, 25_000, 40_000, 90_000]))
    np.testing.assert_allclose(limits[0], [1, 1, 1 + 2 * 10 / 35, 1 + 2 * 20 / 35, 3, 3], rtol=1e-6)
    np.testing.assert_allclose(limits[1], [0, 0, 2.5, 5, 5, 5], rtol=1e-6)
    own = jn.zoo.renorm_limits(3, start=2, r_end=4, d_end=6, r_max=2.0, d_max=4.0)
    np.testing.assert_allclose(own, (1.5, 1.0))


def test_limits_may_be_traced_and_one_program_serves_all_steps(rng):
    x, scale, bias, running = drawn(rng)
    norm = jn.zoo.BatchRenorm()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(number):
        r_max, d_max = jn.zoo.renorm_limits(number)
        return norm.train(jn.Affine(scale, bias), x, running, r_max=r_max, d_max=d_max)[0]

    early, late = step(10), step(100_000)
    np.testing.assert_allclose(early, jn.batch_norm(x, scale, bias, epsilon=1e-3)[0], atol=2e-5)
    np.testing.assert_allclose(late, norm.train(jn.Affine(scale, bias), x, running)[0], atol=1e-6)


def test_averages_are_those_of_mean_and_deviation(rng):
    # Averaging the variance, as elsewhere, gives another r and d.
    norm = jn.zoo.BatchRenorm(momentum=0.75, epsilon=0.01)
    running = norm.initial_stats((2,))
    mean, sigma = np.zeros(2), np.full(2, np.sqrt(1.01))
    for _ in range(3):
        x = rng.standard_normal((5, 2)) * 3 + 1
        running = norm.update_running(running, jn.moments(jnp.asarray(x, jnp.float32)))
        mean, sigma = 0.75 * mean + 0.25 * x.mean(0), 0.75 * sigma + 0.25 * np.sqrt(x.var(0) + 0.01)
    np.testing.assert_allclose(running.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(running.var + 0.01), sigma, rtol=1e-5)
    assert running.count == 15
    y, _ = norm(jn.Affine(None, None), jnp.asarray(x, jnp.float32), running)
    np.testing.assert_allclose(y, (x - mean) / sigma, atol=1e-5)
    # Constant data cannot make a variance negative; nothing measured changes nothing.
    low = jn.zoo.BatchRenorm(momentum=0.0, epsilon=0.01).update_running(running, jn.moments(jnp.full((4, 2), 3.0)))
    assert (np.asarray(low.var) >= 0).all()
    np.testing.assert_allclose(low.var, 0.0, atol=1e-6)
    empty = jn.moments(jnp.ones((4, 2)), where=jnp.zeros((4, 1), bool))
    for a, b in zip(norm.update_running(running, empty), running, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_of_steps_are_pooled_as_variances(rng):
    norm, x = jn.zoo.BatchRenorm(momentum=0.0), rng.standard_normal((3, 4, 2)).astype(np.float32)
    steps = jax.vmap(jn.moments)(x)
    folded = norm.update_running(norm.initial_stats((2,)), steps)
    mean, var, _ = oracles.moments(x)
    np.testing.assert_allclose(folded.mean, mean, atol=1e-6)
    np.testing.assert_allclose(folded.var, var, atol=1e-5)


def test_keras_over_three_steps(rng):
    keras = import_peer("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras runs on another backend: the comparison needs KERAS_BACKEND=jax")
    clipping = {"rmax": 1.5, "rmin": 1 / 1.5, "dmax": 0.5}
    with lenient():
        try:
            layer = keras.layers.BatchNormalization(
                renorm=True, momentum=0.75, renorm_momentum=0.75, epsilon=1e-2, renorm_clipping=clipping
            )
        except (TypeError, ValueError) as error:
            pytest.skip(f"this release of keras has no batch renormalization: {error}")
    norm = jn.zoo.BatchRenorm(momentum=0.75, epsilon=1e-2, r_max=1.5, d_max=0.5)
    x, scale, bias, running = drawn(rng)
    mean, sigma = np.asarray(running.mean), np.sqrt(np.asarray(running.var) + 1e-2)
    with lenient():
        layer.build(x.shape)
        values = {"gamma": scale, "beta": bias, "moving_mean": mean, "renorm_mean": mean, "moving_stddev": sigma}
        values |= {"renorm_stddev": sigma, "moving_variance": running.var}
        for weight in layer.weights:
            weight.assign(values[weight.name])
    train = jax.jit(norm.train)
    for _ in range(3):
        x = (rng.standard_normal(x.shape) * 2 - 1).astype(np.float32)
        y, measured = train(jn.Affine(scale, bias), x, running)
        with lenient():
            theirs = layer(jnp.asarray(x), training=True)
        np.testing.assert_allclose(y, theirs, atol=3e-5)
        running = norm.update_running(running, measured)
    with lenient():
        theirs = layer(jnp.asarray(x), training=False)
    np.testing.assert_allclose(norm(jn.Affine(scale, bias), jnp.asarray(x), running)[0], theirs, atol=3e-5)
    np.testing.assert_allclose(running.var, layer.moving_variance, rtol=1e-4)


def test_errors():
    x, norm = jnp.ones((2, 3)), jn.zoo.BatchRenorm()
    with pytest.raises(ValueError, match=r"BatchRenorm: stats is None, .* Call train\(params, x, running\)"):
        norm(norm.init((3,)), x)
    with pytest.raises(ValueError, match=r"LSTM: norm.cell: BatchRenorm.* it looks at running statistics"):
        jn.LSTM(3, norm=jn.CellNorms(cell=norm))
    for make in (lambda: jn.zoo.BatchRenorm(r_max=0.5), lambda: jn.zoo.renorm_limits(1, r_max=0.5)):
        with pytest.raises(ValueError, match=r"r_max must be a number in \[1.0, inf\], got 0.5"):
            make()
    with pytest.raises(ValueError, match=r"batch_renorm: d_max must be a number in \[0.0, inf\], got -1.0"):
        jn.zoo.batch_renorm(x, running=norm.initial_stats((3,)), d_max=-1)
    with pytest.raises(ValueError, match=r"renorm_limits: d_end must lie after start=9, got 9"):
        jn.zoo.renorm_limits(1, start=9, d_end=9)
    with pytest.raises(ValueError, match=r"running.mean must broadcast to the shape of x"):
        jn.zoo.batch_renorm(x, running=norm.initial_stats((2,)))
