"""What is peculiar to PowerNorm: the published training steps, the backward pass that is no derivative, inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnorm as jn


class Published:
    """The published algorithm in NumPy and float64, one layer with its buffers."""

    def __init__(self, features, groups, warmup):
        self.phi, self.nu, self.step = np.ones(features), np.zeros(features), 0
        self.groups, self.warmup, self.epsilon = groups, warmup, 1e-5

    def grouped(self, x):
        parts = x.reshape(len(x), self.groups, -1)
        return (parts / np.sqrt((parts**2).mean(-1, keepdims=True) + self.epsilon)).reshape(x.shape)

    def train(self, x, scale, bias, dy):
        """Output, and the gradient that reaches what comes after the division by groups."""
        self.step += 1
        data = self.grouped(x)
        q = (data**2).mean(0)
        z = data / np.sqrt((q if self.step <= self.warmup else self.phi) + self.epsilon)
        # Published so: the last step of the warm-up normalizes by the batch, and is not averaged.
        if self.step < self.warmup:
            self.phi = self.phi * (self.step - 1) / self.step + q / self.step
        self.phi = 0.9 * self.phi + 0.1 * q
        g = dy * scale - (1 - 0.9) * self.nu * z
        self.nu = self.nu + (g * z).mean(0)
        return z * scale + bias, g / np.sqrt(q + self.epsilon)


@pytest.mark.parametrize("groups", [1, 3])
def test_training_steps_are_those_of_the_published_code(groups, rng):
    norm = jn.zoo.PowerNorm(groups, warmup=2)
    other, running = Published(6, groups, 2), norm.initial_stats((6,))
    params = jn.Affine(*(jnp.asarray(rng.standard_normal(6), jnp.float32) for _ in range(2)))
    scale, bias = (np.asarray(leaf, np.float64) for leaf in params)

    @jax.jit
    def train(params, running, x, dy):
        def loss(params, running, x):
            y, measured = norm.train(params, x, running)
            return jnp.sum(y * dy), (y, measured)

        slopes, (y, measured) = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, running, x)
        return y, slopes, norm.correct(norm.update_running(running, measured), slopes[1])

    for _ in range(4):
        x, dy = rng.standard_normal((2, 7, 6)) + 0.5
        y, (d_params, _, dx), running = train(params, running, *(jnp.asarray(a, jnp.float32) for a in (x, dy)))
        want, d_data = other.train(x, scale, bias, dy)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(d_params.bias, dy.sum(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(d_params.scale, (dy * (want - bias) / scale).sum(0), rtol=1e-3, atol=1e-4)
        # The division by groups before it is differentiated as it is.
        parts = (len(x), groups, -1)
        root = np.sqrt((x.reshape(parts) ** 2).mean(-1, keepdims=True) + 1e-5)
        unit, d = x.reshape(parts) / root, d_data.reshape(parts)
        want_dx = ((d - unit * (d * unit).mean(-1, keepdims=True)) / root).reshape(x.shape)
        np.testing.assert_allclose(dx, want_dx, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(running.square, other.phi, rtol=1e-5)
        np.testing.assert_allclose(running.correction, other.nu, rtol=1e-3, atol=1e-4)
    assert running.count == 4


@pytest.mark.parametrize("warmup", [0, 1, 2, 3])
def test_border_of_the_warm_up(warmup, rng, x64):
    """Forward, backward and both running statistics, step after step from before the border to behind it."""
    norm = jn.zoo.PowerNorm(2, warmup=warmup, backward_momentum=0.7, momentum=0.8)
    params = jn.Affine(*jnp.asarray(rng.standard_normal((2, 4))))
    scale, bias = map(np.asarray, params)
    running = norm.initial_stats((4,), jnp.float64)
    phi, nu = np.ones(4), np.zeros(4)

    @jax.jit
    def train(data, running, dy):
        def loss(data, running):
            y, measured = norm.train(params, data, running)
            return jnp.sum(y * dy), (y, measured)

        slopes, (y, measured) = jax.grad(loss, argnums=(0, 1), has_aux=True)(data, running)
        return y, slopes[0], norm.correct(norm.update_running(running, measured), slopes[1])

    for step in range(1, warmup + 3):
        x, dy = rng.standard_normal((2, 6, 4))
        parts = x.reshape(6, 2, 2)
        root = np.sqrt((parts**2).mean(-1, keepdims=True) + 1e-5)
        data = (parts / root).reshape(6, 4)
        q = (data**2).mean(0)
        z = data / np.sqrt((q if step <= warmup else phi) + 1e-5)
        g = dy * scale - 0.3 * nu * z
        d = (g / np.sqrt(q + 1e-5)).reshape(6, 2, 2)
        unit = data.reshape(6, 2, 2)
        dx = ((d - unit * (d * unit).mean(-1, keepdims=True)) / root).reshape(6, 4)
        if step < warmup:
            phi = phi + (q - phi) / step
        phi, nu = 0.8 * phi + 0.2 * q, nu + (g * z).mean(0)
        y, got_dx, running = train(jnp.asarray(x), running, jnp.asarray(dy))
        for got, want in ((y, z * scale + bias), (got_dx, dx), (running.square, phi), (running.correction, nu)):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
        assert running.count == step
    data = x.reshape(6, 2, 2) / root
    inference = data.reshape(6, 4) / np.sqrt(phi + 1e-5) * scale + bias
    np.testing.assert_allclose(norm(params, jnp.asarray(x), running)[0], inference, rtol=1e-11, atol=1e-11)


def test_backward_pass_is_no_derivative(rng):
    # With q in the denominator the derivative takes off the projection on z at once; the published one by and by.
    x = jnp.asarray(rng.standard_normal((5, 4)), jnp.float32)

    def plain(x):
        data = jn.rms_norm(x)
        return jnp.sum(jnp.sin(data / jnp.sqrt(jnp.mean(data**2, axis=0, keepdims=True) + 1e-5)))

    ours, theirs = jax.grad(lambda x: jnp.sum(jnp.sin(jn.zoo.power_norm(x)[0])))(x), jax.grad(plain)(x)
    np.testing.assert_allclose(jnp.sum(jnp.sin(jn.zoo.power_norm(x)[0])), plain(x), rtol=1e-5)
    assert np.abs(ours - theirs).max() > 1e-2
    with pytest.raises(TypeError, match=r"power_norm: .*none in forward mode .* Use reverse mode"):
        jax.jvp(lambda x: jn.zoo.power_norm(x)[0], (x,), (x,))


def test_inference_is_a_fixed_scaling_with_its_derivative(rng, x64):
    norm = jn.zoo.PowerNorm(2)
    params = jn.Affine(*jnp.asarray(rng.standard_normal((2, 4))))
    running = jn.zoo.PowerStats(jnp.asarray(rng.uniform(0.5, 2, 4)), jnp.ones(4), jnp.asarray(3.0))
    x = jnp.asarray(rng.standard_normal((3, 4)))
    y, used = norm(params, x, running)
    assert used is running
    data = jn.rms_norm(x.reshape(3, 2, 2)).reshape(3, 4)
    root, scale, bias = (np.asarray(leaf) for leaf in (np.sqrt(running.square + 1e-5), *params))
    np.testing.assert_allclose(y, np.asarray(data) / root * scale + bias, rtol=1e-7)
    np.testing.assert_allclose(norm(params, x[:1], running)[0], y[:1], rtol=1e-10)
    check_grads(jax.jit(lambda x: norm(params, x, running)[0]), (x,), order=1)


def test_padding_reaches_nothing(rng):
    norm = jn.zoo.PowerNorm(warmup=0)
    params = norm.init((3,))
    running = jn.zoo.PowerStats(jnp.asarray([0.5, 1.0, 2.0]), jnp.asarray([0.3, -0.2, 0.1]), jnp.asarray(5.0))
    x = rng.standard_normal((4, 3)).astype(np.float32)
    mask = np.array([[True], [False], [True], [True]])

    def run(x, where):
        def loss(x, running):
            y, measured = norm.train(params, x, running, where)
            return jnp.sum(jnp.sin(y)), (y, measured)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(x, running)

    (dx, growth), (y, measured) = run(jnp.asarray(np.where(mask, x, np.nan)), jnp.asarray(mask))
    (want_dx, want_growth), (want_y, want_measured) = run(jnp.asarray(x[mask[:, 0]]), None)
    np.testing.assert_allclose(y[mask[:, 0]], want_y, rtol=1e-5)
    np.testing.assert_allclose(dx[mask[:, 0]], want_dx, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(growth.correction, want_growth.correction, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(measured.square, want_measured.square, rtol=1e-6)
    assert not np.asarray(dx)[1].any()
    # A batch of padding alone leaves the running statistics.
    _, (_, nothing) = run(jnp.asarray(x), jnp.zeros((4, 1), bool))
    for old, new in zip(running, norm.update_running(running, nothing), strict=True):
        np.testing.assert_array_equal(old, new)


def test_errors():
    with pytest.raises(ValueError, match=r"power_norm: training=True needs the running statistics as stats"):
        jn.zoo.power_norm(jnp.ones((2, 3)), training=True)
    with pytest.raises(ValueError, match=r"power_norm: stats must have shape \(F,\) = \(3,\), got \(2,\)"):
        jn.zoo.power_norm(jnp.ones((2, 3)), stats=jn.zoo.PowerNorm().initial_stats((2,)))
    with pytest.raises(ValueError, match=r"power_norm: num_groups=2 must divide .* F = 3"):
        jn.zoo.power_norm(jnp.ones((2, 3)), num_groups=2)
    with pytest.raises(ValueError, match=r"LSTM: norm.input: PowerNorm\(.* Use BatchNorm"):
        jn.LSTM(4, norm=jn.zoo.PowerNorm())
