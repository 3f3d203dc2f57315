"""What is peculiar to EvoNorm-B0 and S0: two variances and their maximum, the swish, running statistics, sites."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def weights(rng, spec, shape):
    fresh = spec.init(spec.param_shape(shape), jnp.float64)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), fresh)


@pytest.mark.parametrize(
    "spec",
    [
        jn.zoo.EvoNormB0(),
        jn.zoo.EvoNormB0((0, 2, 3), position_axis=(2, 3), epsilon=0.1),
        jn.zoo.EvoNormS0(2),
        jn.zoo.EvoNormS0(3, axis=(1, 3), feature_axis=1, use_bias=False, epsilon=0.1),
    ],
    ids=str,
)
def test_any_layout_against_the_equation_in_double_precision(spec, rng, x64):
    x = rng.standard_normal((2, 3, 5, 4)) * 2 + 1
    mask = jnp.asarray(rng.random(x.shape) < 0.7)
    params = weights(rng, spec, x.shape)
    ys = jax.jit(lambda p, x: [spec(p, x, None, where)[0] for where in (None, mask)])(params, x)
    for where, y in zip((None, mask), ys, strict=True):
        np.testing.assert_allclose(y, oracles.of_spec(spec, params, x, where), rtol=1e-11, atol=1e-11)


def test_both_sides_of_the_maximum_are_used(rng):
    x = jnp.asarray(rng.standard_normal((4, 6, 3)), jnp.float32)
    batch_only, _ = jn.zoo.evo_norm_b0(x, jnp.full(3, -1e9))
    ours, measured = jn.zoo.evo_norm_b0(x, jnp.ones(3))
    deviation = np.sqrt(np.asarray(x, np.float64).var((0, 1)) + 1e-3)
    # A slope of minus infinity leaves the deviation of the batch for positive x ...
    positive = np.asarray(x) > 0
    np.testing.assert_allclose(np.asarray(batch_only)[positive], (np.asarray(x) / deviation)[positive], rtol=1e-5)
    # ... and with slope one the other side is below it for negative enough, above it for positive enough elements.
    same = np.isclose(ours, np.asarray(x) / deviation, rtol=1e-5)
    assert same.any()
    assert not same.all()
    np.testing.assert_allclose(measured.var, np.asarray(x, np.float64).var((0, 1)), rtol=1e-5)


def test_inference_replaces_the_variance_of_the_batch_alone(rng):
    x = rng.standard_normal((3, 4, 2)).astype(np.float32)
    running = jn.Moments(jnp.asarray([9.0, 9.0]), jnp.asarray([0.25, 4.0]), jnp.asarray(7.0))
    norm = jn.zoo.EvoNormB0()
    y, used = norm(norm.init((2,)), jnp.asarray(x), running)
    own = np.sqrt(x.astype(np.float64).var(1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(y, x / np.maximum(np.sqrt(np.array([0.25, 4.0]) + 1e-3), x + own), rtol=1e-5)
    assert used is running
    alone, _ = norm(norm.init((2,)), jnp.asarray(x[:1]), running)
    np.testing.assert_allclose(alone, y[:1], rtol=1e-6)


def test_published_rule_of_the_running_variance(rng):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    norm = jn.zoo.EvoNormB0()
    _, measured = norm(norm.init((4,)), jnp.asarray(x))
    running = norm.update_running(norm.initial_stats((4,)), measured)
    np.testing.assert_allclose(running.var, 0.9 + 0.1 * x.astype(np.float64).var((0, 1), ddof=1), rtol=1e-5)


def test_s0_is_a_swish_over_a_deviation(rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32)
    norm = jn.zoo.EvoNormS0(2)
    y, _ = norm(norm.init((4,)), x)
    deviation = np.sqrt(np.asarray(x, np.float64).reshape(2, 3, 2, 2).var((1, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        y, (np.asarray(jax.nn.silu(x)).reshape(2, 3, 2, 2) / deviation).reshape(2, 3, 4), rtol=1e-5
    )


def test_s0_spread_over_a_named_axis(rng):
    x = rng.standard_normal((2, 6, 4)).astype(np.float32)
    want = jn.zoo.evo_norm_s0(jnp.asarray(x), jnp.ones(4), num_groups=2)

    def part(x):
        return jn.zoo.evo_norm_s0(x, jnp.ones(4), num_groups=2, axis_name="s")

    got = jax.jit(jax.vmap(part, in_axes=1, out_axes=1, axis_name="s"))(x.reshape(2, 3, 2, 4))
    np.testing.assert_allclose(got.reshape(x.shape), want, atol=1e-6)


def test_sites_and_errors():
    jn.LSTM(4, norm=jn.zoo.EvoNormS0(2, axis=-1))
    with pytest.raises(ValueError, match=r"GRU: EvoNormS0\(.* Use axis=-1"):
        jn.zoo.EvoNormS0(2).check_site("GRU")
    with pytest.raises(ValueError, match=r"GRU: EvoNormB0\(.* one step has no positions"):
        jn.zoo.EvoNormB0().check_site("GRU")
    with pytest.raises(ValueError, match=r"evo_norm_b0: x with shape \(3, 4\) has no position axis"):
        jn.zoo.evo_norm_b0(jnp.ones((3, 4)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"evo_norm_s0: num_groups=3 must divide .* F = 4"):
        jn.zoo.evo_norm_s0(jnp.ones((3, 4)), jnp.ones(4), num_groups=3)
    with pytest.raises(ValueError, match=r"EvoNormB0: ddof must be 0 or 1, got 2"):
        jn.zoo.EvoNormB0(ddof=2)
