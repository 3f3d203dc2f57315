"""What is peculiar to filter response normalization: the threshold, the learned epsilon, single positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def test_any_layout_against_the_equation_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 3, 4, 5)) * 2 + 1
    mask = jnp.asarray(rng.random(x.shape) < 0.7)
    specs = [
        jn.zoo.FilterResponseNorm(),
        jn.zoo.FilterResponseNorm((2, 3), feature_axis=1, use_learned_epsilon=True),
        jn.zoo.FilterResponseNorm((1,), use_threshold=False, epsilon=0.3),
    ]
    params = [
        jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), spec.init(spec.param_shape(x.shape), jnp.float64)
        )
        for spec in specs
    ]

    @jax.jit
    def run(params, x):
        return [[spec(p, x, None, where)[0] for where in (None, mask)] for spec, p in zip(specs, params, strict=True)]

    for spec, p, ys in zip(specs, params, run(params, x), strict=True):
        for where, y in zip((None, mask), ys, strict=True):
            np.testing.assert_allclose(y, oracles.of_spec(spec, p, x, where), rtol=1e-11, atol=1e-11)


def test_a_fresh_layer_is_a_relu_of_the_normalized(rng):
    x = rng.standard_normal((2, 3, 3, 4)).astype(np.float32)
    norm = jn.zoo.FilterResponseNorm()
    y, _ = norm(norm.init((4,)), jnp.asarray(x))
    rms = np.sqrt((x.astype(np.float64) ** 2).mean((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, np.maximum(x / rms, 0), rtol=1e-5)


def test_the_threshold_gets_the_gradient_of_what_it_cut(rng):
    x = jnp.asarray(rng.standard_normal((2, 5, 3)), jnp.float32)
    threshold = jnp.asarray([-0.5, 0.2, 9.0])
    gradient = jax.grad(lambda t: jn.zoo.filter_response_norm(x, threshold=t).sum())(threshold)
    np.testing.assert_array_equal(
        gradient, (np.asarray(jn.zoo.filter_response_norm(x)) < np.asarray(threshold)).sum((0, 1))
    )


def test_a_single_position_needs_the_learned_epsilon():
    # Without it every value becomes its sign; with it small values stay small.
    x = jnp.asarray([[[1e-3, -2.0]]])
    np.testing.assert_allclose(jn.zoo.filter_response_norm(x, epsilon=1e-12), np.sign(x), rtol=1e-5)
    for data in (x, x[:, 0]):  # without position axes, too
        y = jn.zoo.filter_response_norm(data, learned_epsilon=jnp.asarray(-1e-2))
        np.testing.assert_allclose(y, np.asarray(data) / np.sqrt(np.asarray(data) ** 2 + 1e-6 + 1e-2), rtol=1e-5)


def test_positions_spread_over_a_named_axis(rng):
    x = rng.standard_normal((2, 8, 3)).astype(np.float32)
    want = jn.zoo.filter_response_norm(jnp.asarray(x), learned_epsilon=jnp.asarray(0.1))

    def part(x):
        return jn.zoo.filter_response_norm(x, learned_epsilon=jnp.asarray(0.1), axis_name="s")

    got = jax.jit(jax.vmap(part, in_axes=1, out_axes=1, axis_name="s"))(x.reshape(2, 4, 2, 3))
    np.testing.assert_allclose(got.reshape(x.shape), want, atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"filter_response_norm: feature_axis=-1 names the first axis of x"):
        jn.zoo.filter_response_norm(jnp.ones(3))
    with pytest.raises(ValueError, match=r"filter_response_norm: axis=1 .* and not feature_axis=-1"):
        jn.zoo.filter_response_norm(jnp.ones((2, 3)), axis=1)
    with pytest.raises(ValueError, match=r"epsilon must be above 0 where learned_epsilon is given, got 0"):
        jn.zoo.filter_response_norm(jnp.ones((2, 3, 1)), epsilon=0.0, learned_epsilon=jnp.asarray(1e-4))
    with pytest.raises(ValueError, match=r"filter_response_norm: threshold must broadcast .* got \(1, 1, 2\)"):
        jn.zoo.filter_response_norm.__wrapped__(jnp.ones((2, 3, 4)), threshold=jnp.ones(2))
    with pytest.raises(ValueError, match=r"LSTM: FilterResponseNorm\(.* one step has no positions"):
        jn.zoo.FilterResponseNorm().check_site("LSTM")
