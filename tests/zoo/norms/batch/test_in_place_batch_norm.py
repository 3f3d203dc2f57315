"""What is peculiar to in-place batch normalization: what it keeps, derivatives as in two steps, lost scales."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn


def two_steps(x, scale, bias, slope=0.01, **rest):
    y, measured = jn.batch_norm(x, scale, bias, **rest)
    z = jax.nn.leaky_relu(y, slope)
    return z if rest.get("where") is None else jnp.where(rest["where"], z, 0.0), measured


def kept_by(function, x):
    """The arrays of the size of x that the backward pass holds on to."""
    _, pull_back = jax.vjp(function, x)
    return [leaf for leaf in jax.tree.leaves(pull_back) if getattr(leaf, "shape", None) == x.shape]


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_derivatives_of_both_orders_are_those_of_two_steps(masked, rng, x64):
    x, scale, bias = (jnp.asarray(rng.standard_normal(shape)) for shape in ((5, 3, 4), 4, 4))
    mask = jnp.asarray(rng.random(x.shape) < 0.7) if masked else None
    along = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), (x, scale, bias))

    @jax.jit
    def run(*args):
        def each(function):
            def f(*args):
                return function(*args, where=mask)

            def loss(*args):
                z, measured = f(*args)
                return jnp.sum(jnp.sin(z)) + jnp.sum(jnp.cos(measured.mean)) + jnp.sum(jnp.tanh(measured.var))

            curvature = jax.jvp(jax.grad(loss, argnums=(0, 1, 2)), args, along)[1]
            return f(*args), jax.jvp(f, args, along)[1], jax.grad(loss, argnums=(0, 1, 2))(*args), curvature

        return each(jn.zoo.in_place_batch_norm), each(two_steps)

    got, want = run(x, scale, bias)
    chex.assert_trees_all_close(got, want, rtol=1e-8, atol=1e-9)


def test_the_input_is_not_kept(rng):
    x = jnp.asarray(rng.standard_normal((6, 4)), jnp.float32)
    scale, bias = (jnp.asarray(rng.standard_normal(4), jnp.float32) for _ in range(2))

    def ours(x):
        return jn.zoo.in_place_batch_norm(x, scale, bias)[0]

    kept = kept_by(ours, x)
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0], ours(x))
    # In two steps more is kept, and the check would see it.
    assert len(kept_by(lambda x: two_steps(x, scale, bias)[0], x)) > 1


def test_the_next_layer_shares_what_is_kept(rng):
    x = jnp.asarray(rng.standard_normal((6, 4)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((4, 5)), jnp.float32)
    kept = kept_by(lambda x: jnp.sin(jn.zoo.in_place_batch_norm(x)[0] @ kernel), x)
    z = jn.zoo.in_place_batch_norm(x)[0]
    for leaf in kept:
        np.testing.assert_array_equal(leaf, z)

    def layers(x, kernel):
        return jn.zoo.in_place_batch_norm(x)[0] @ kernel

    _, pull_back = jax.vjp(layers, x, kernel)
    whole = [leaf for leaf in jax.tree.leaves(pull_back) if getattr(leaf, "shape", None) == x.shape]
    for leaf in whole:
        np.testing.assert_array_equal(leaf, z)


def test_bfloat16_keeps_bfloat16(rng):
    x = jnp.asarray(rng.standard_normal((6, 4)), jnp.bfloat16)
    (kept,) = kept_by(lambda x: jn.zoo.in_place_batch_norm(x)[0], x)
    assert kept.dtype == jnp.bfloat16
    ours, theirs = (
        jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x)[0].astype(jnp.float32))))(x)
        for f in (jn.zoo.in_place_batch_norm, lambda x: two_steps(x, None, None))
    )
    np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), atol=3e-2)


def test_a_scale_of_zero_is_lost_but_harms_nothing(rng):
    x = jnp.asarray(rng.standard_normal((6, 2)), jnp.float32)
    scale, bias = jnp.asarray([0.0, 1.5]), jnp.asarray([0.3, -0.2])
    slopes = [
        jax.grad(lambda *args, f=f: jnp.sum(jnp.sin(f(*args)[0])), argnums=(0, 1, 2))(x, scale, bias)
        for f in (jn.zoo.in_place_batch_norm, two_steps)
    ]
    chex.assert_tree_all_finite(slopes[0])
    for ours, theirs in zip(slopes[0], slopes[1], strict=True):
        np.testing.assert_allclose(ours[..., 1], theirs[..., 1], atol=1e-5)
    assert slopes[0][1][0] == 0
    np.testing.assert_allclose(slopes[0][2], slopes[1][2], atol=1e-5)


def test_negative_scales_a_slope_of_one_and_inference(rng):
    x = jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)
    scale, bias = jnp.asarray([-1.0, 2.0, -0.5]), jnp.asarray([0.3, -0.2, 0.1])
    plain, measured = jn.batch_norm(x, scale, bias)
    np.testing.assert_allclose(jn.zoo.in_place_batch_norm(x, scale, bias, slope=1.0)[0], plain, atol=1e-6)
    z, used = jn.zoo.in_place_batch_norm(x, scale, bias, moments=measured)
    assert used is measured
    np.testing.assert_allclose(z, jax.nn.leaky_relu(plain), atol=1e-6)
    np.testing.assert_allclose(jn.zoo.in_place_batch_norm(x, scale, bias)[0], z, atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"in_place_batch_norm: slope must be above 0, got 0"):
        jn.zoo.in_place_batch_norm(jnp.ones((2, 3)), slope=0.0)
    with pytest.raises(ValueError, match=r"InPlaceBatchNorm: slope must be a number in \[0.0, 1.0\], got 1.5"):
        jn.zoo.InPlaceBatchNorm(slope=1.5)
    with pytest.raises(ValueError, match=r"LSTM: norm.input: InPlaceBatchNorm\(.* Use BatchNorm"):
        jn.LSTM(4, norm=jn.zoo.InPlaceBatchNorm())
