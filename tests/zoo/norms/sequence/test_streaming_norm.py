"""What is peculiar to streaming normalization: its two passes over several weight updates, and batch norm as a case."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxnorm as jn


class Published:
    """The algorithm in NumPy and float64: lists of all data and of all gradients since the last weight update."""

    def __init__(self, features, a, b, k1, k3):
        self.a, self.b, self.k1, self.k3 = a, b, k1, k3
        self.long, self.slopes_long = np.stack([np.zeros(features), np.ones(features)]), np.zeros((2, features))
        self.data, self.slopes = [], []

    def short(self):
        data = np.concatenate(self.data)
        return np.stack([data.mean(0), ((data - data.mean(0)) ** 2).mean(0)])

    def average(self):
        return np.average([g for g, _ in self.slopes], axis=0, weights=[n for _, n in self.slopes])

    def train(self, x, scale, bias, dy):
        """Output, and the gradient of x."""
        self.data.append(x)
        mean, var = self.a[0] * self.long + self.a[1] * self.short()
        root = np.sqrt(var + 1e-5)
        z, dz = (x - mean) / root, dy * scale
        g = np.stack([(-dz / root).sum(0), (-dz * z / (2 * root**2)).sum(0)])
        self.slopes.append((g, len(x)))
        g_mean, g_var = self.b[0] * self.slopes_long + self.b[1] * self.average() + self.b[2] * g
        return z * scale + bias, dz / root + (g_mean + g_var * 2 * (x - x.mean(0))) / len(x)

    def update(self):
        self.long = self.k1 * self.long + (1 - self.k1) * self.short()
        self.slopes_long = self.k3 * self.slopes_long + (1 - self.k3) * self.average()
        self.data, self.slopes = [], []


def passes(norm):
    """One compiled training call: output, the gradients of weights and of x, running statistics after it."""

    @jax.jit
    def train(params, running, x, dy):
        def loss(params, running, x):
            y, measured = norm.train(params, x, running)
            return jnp.sum(y * dy), (y, measured)

        (d_params, gathered, dx), (y, measured) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, running, x)
        return y, d_params, dx, norm.correct(norm.accumulate(running, measured), gathered)

    return train


def drawn(rng, *shape):
    return tuple(jnp.asarray(a, jnp.float32) for a in rng.standard_normal((2, *shape)) + 0.5)


@pytest.mark.parametrize(
    ("norm", "a", "b"),
    [
        (jn.zoo.StreamingNorm(), (0.5, 0.5), (0.5, 0.5, 0.0)),
        (jn.zoo.StreamingNorm.feedforward(momentum=0.6, backward_momentum=0.2), (0.5, 0.5), (0.5, 0.5, 0.0)),
        (jn.zoo.StreamingNorm.recurrent(), (0.7, 0.3), (0.7, 0.0, 0.3)),
        (jn.zoo.StreamingNorm(weights=(0.2, 0.8), backward_weights=(0.3, 0.4, 0.5)), (0.2, 0.8), (0.3, 0.4, 0.5)),
    ],
)
def test_both_passes_over_weight_updates(norm, a, b, rng):
    """Three weight updates after two calls each, the second call with a batch of one."""
    other, running = Published(3, a, b, norm.momentum, norm.backward_momentum), norm.initial_stats((3,))
    assert (norm.momentum, norm.backward_momentum) in ((0.7, 0.7), (0.6, 0.2))
    params, train = jn.Affine(*drawn(rng, 3)), passes(norm)
    scale, bias = (np.asarray(leaf, np.float64) for leaf in params)
    for _ in range(3):
        for size in (5, 1):
            x, dy = drawn(rng, size, 3)
            y, d_params, dx, running = train(params, running, x, dy)
            x, dy = (np.asarray(array, np.float64) for array in (x, dy))
            want, want_dx = other.train(x, scale, bias, dy)
            np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(dx, want_dx, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(d_params.scale, (dy * (want - bias) / scale).sum(0), rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(running.short[:2], other.short(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(running.gradient_short[:2], other.average(), rtol=1e-4, atol=1e-4)
        running = norm.update(running)
        other.update()
        np.testing.assert_allclose(running.long[:2], other.long, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(running.gradient_long[:2], other.slopes_long, rtol=1e-4, atol=1e-4)
        assert not any(np.asarray(leaf).any() for leaf in (*running.short, *running.gradient_short))
    assert running.long.count == running.gradient_long.count == 18
    x = drawn(rng, 2, 3)[0]
    y, used = norm(params, x, running)
    assert used is running
    x, (mean, var) = np.asarray(x), other.long
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5) * scale + bias, rtol=1e-4, atol=1e-5)


def test_batch_normalization_is_a_case(rng):
    """Over two weight updates, gradients and running statistics included; rounding alone differs."""
    norm, plain = (
        jn.zoo.StreamingNorm(weights=(0.0, 1.0), backward_weights=(0.0, 0.0, 1.0), momentum=0.9),
        jn.BatchNorm(momentum=0.9),
    )
    params = jn.Affine(*drawn(rng, 4))
    running, moving = norm.initial_stats((4,)), plain.initial_stats((4,))
    for _ in range(2):
        x, dy = drawn(rng, 6, 4)

        def loss(spec, params, x, stats, dy=dy):
            y, measured = spec.train(params, x, stats)
            return jnp.sum(y * dy), (y, measured)

        got, want = (
            jax.grad(loss, (1, 2), has_aux=True)(spec, params, x, stats)
            for spec, stats in ((norm, running), (plain, moving))
        )
        close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
        jax.tree.map(close, got, want)
        running, moving = norm.update_running(running, got[1][1]), plain.update_running(moving, want[1][1])
        jax.tree.map(close, running.long, moving)


def test_where_all_statistics_agree_the_gradient_is_that_of_batch_normalization(rng):
    norm, (x, dy) = jn.zoo.StreamingNorm(), drawn(rng, 6, 4)
    measured = jn.moments(x)
    running = norm.initial_stats((4,))._replace(long=measured)
    params, train = norm.init((4,)), passes(norm)
    _, _, _, after = train(params, running, x, dy)
    running = running._replace(gradient_long=after.gradient_short._replace(count=jnp.float32(6)))
    _, _, dx, _ = train(params, running, x, dy)
    want = jax.grad(lambda x: jnp.sum(jn.batch_norm(x)[0] * dy))(x)
    np.testing.assert_allclose(dx, want, rtol=1e-4, atol=1e-5)


def test_time_steps_share_statistics(rng):
    """A loop over steps with a batch of one; what it gathers adds up, and is gathered once a step."""
    norm = jn.zoo.StreamingNorm.recurrent()
    params, running = jn.Affine(*drawn(rng, 3)), norm.initial_stats((3,))
    xs, dys = drawn(rng, 4, 1, 3)

    @jax.jit
    def whole(running):
        def loss(running):
            def step(carry, inputs):
                y, measured = norm.train(params, inputs[0], carry)
                return norm.accumulate(carry, measured), (jnp.sum(y * inputs[1]), y)

            after, (losses, ys) = lax.scan(step, running, (xs, dys))
            return jnp.sum(losses), (ys, after)

        gathered, (ys, after) = jax.grad(loss, has_aux=True)(running)
        return ys, norm.correct(after, gathered)

    ys, after = whole(running)
    train = passes(norm)
    for x, dy, y in zip(xs, dys, ys, strict=True):
        want, _, _, running = train(params, running, x, dy)
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(after, running, rtol=1e-4, atol=1e-5)
    assert np.ptp(np.asarray(ys), axis=0).min() > 1e-2
    # Measurements of several steps on a leading axis are those of all of them.
    again = norm.accumulate(norm.initial_stats((3,)), jax.vmap(jn.moments)(xs))
    np.testing.assert_allclose(again.short[:2], after.short[:2], rtol=1e-4, atol=1e-6)


def test_padding_reaches_nothing(rng):
    norm = jn.zoo.StreamingNorm(backward_weights=(0.3, 0.4, 0.3))
    params, running = norm.init((3,)), norm.initial_stats((3,))
    x, dy = drawn(rng, 4, 3)
    _, _, _, running = passes(norm)(params, running, x, dy)
    mask = jnp.array([[True], [False], [True], [True]])

    @jax.jit
    def run(x, where, dy):
        def loss(x, running):
            y, measured = norm.train(params, x, running, where)
            return jnp.sum(y * dy), measured

        (dx, gathered), measured = jax.grad(loss, (0, 1), has_aux=True)(x, running)
        return dx, norm.update(norm.correct(norm.accumulate(running, measured), gathered))

    real = np.array([0, 2, 3])
    dx, after = run(jnp.where(mask, x, jnp.nan), mask, dy)
    want_dx, want_after = run(x[real], None, dy[real])
    assert not np.asarray(dx)[1].any()
    chex.assert_trees_all_close((dx[real], after), (want_dx, want_after), rtol=1e-4, atol=1e-5)
    # Padding alone leaves everything but the last weight update as it was; a second update has nothing to move.
    _, untouched = run(jnp.full((4, 3), jnp.nan), jnp.zeros((4, 1), bool), dy)
    chex.assert_trees_all_equal(untouched, norm.update(running))
    chex.assert_trees_all_equal(norm.update(untouched), untouched)


def test_errors(unhooked):
    x, norm = jnp.ones((2, 3)), jn.zoo.StreamingNorm()
    with pytest.raises(ValueError, match=r"StreamingNorm: stats is None, .* Call train\(params, x, running\)"):
        norm(norm.init((3,)), x)
    with pytest.raises(ValueError, match=r"LSTM: norm.recurrent: StreamingNorm.* it looks at running statistics"):
        jn.LSTM(3, norm=jn.CellNorms(recurrent=norm))
    with pytest.raises(ValueError, match=r"streaming_norm: stats must have shape \(\*F\) = \(3,\), got \(2,\)"):
        jn.zoo.streaming_norm(x, stats=norm.initial_stats((2,)))
    for wrong, message in (
        ({"weights": (0.5, 0.6)}, r"weights must be 1 together, got \(0.5, 0.6\). Pass \(a, 1 - a\)"),
        ({"weights": (1.5, -0.5)}, r"weights must be a number in \[0.0, 1.0\], got 1.5"),
        ({"backward_weights": (0.5, 0.5)}, r"backward_weights must be 3 numbers, got \(0.5, 0.5\)"),
    ):
        with pytest.raises(ValueError, match=rf"StreamingNorm: {message}"):
            jn.zoo.StreamingNorm(**wrong)
    with pytest.raises(ValueError, match=r"StreamingNorm: momentum must be a number .*, got None"):
        jn.zoo.StreamingNorm(momentum=None)
    with pytest.raises(TypeError, match=r"streaming_norm: .*none in forward mode .* Use reverse mode"):
        jax.jvp(lambda x: jn.zoo.streaming_norm(x, stats=norm.initial_stats((3,)))[0], (x,), (x,))
    assert hash(jn.zoo.StreamingNorm(weights=[0.5, 0.5])) == hash(norm)
