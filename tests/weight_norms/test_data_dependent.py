"""Data-dependent initialization over whole models: NumPy layer by layer, and what comes out is standardized."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn


def dense(v):
    return lambda x: jnp.tensordot(x, jn.weight_norm(v, axis=0), ((x.ndim - 1,), (0,)))


def kernels_of(rng, *shapes):
    return [jnp.asarray(0.05 * rng.standard_normal(shape), jnp.float32) for shape in shapes]


def oracle(kernels, x, init_scale=1.0, epsilon=0.0):
    """Salimans, Kingma 2016, eqs. 5 and 6, with tanh between layers of dense kernels (or kernels of gates)."""
    x, found = np.asarray(x, np.float64), []
    for v in kernels:
        v = np.asarray(v, np.float64)
        t = np.tensordot(x, v / np.sqrt((v**2).sum(0)), 1)
        batch = t.reshape(-1, *v.shape[1:])
        mean = batch.mean(0)
        g = init_scale / np.sqrt(((batch - mean) ** 2).mean(0) + epsilon)
        found.append((g, -g * mean))
        x = np.tanh(t * g + found[-1][1])
    return found


def test_a_model_layer_by_layer(rng):
    kernels, x = kernels_of(rng, (6, 5), (5, 4), (4, 3)), rng.standard_normal((20, 6)) * 2 + 1
    layers = [(dense(v), jnp.tanh) for v in kernels]
    for options in ({}, {"init_scale": 0.3, "epsilon": 1e-2}):
        found = jax.jit(lambda x, options=options: jn.weight_norms.data_dependent_init(layers, x, **options))(
            jnp.asarray(x, jnp.float32)
        )
        for got, want in zip(found, oracle(kernels, x, **options), strict=True):
            np.testing.assert_allclose(got.scale, want[0], rtol=2e-4)
            np.testing.assert_allclose(got.bias, want[1], rtol=2e-4, atol=2e-5)


def test_every_pre_activation_has_mean_zero_and_variance_one(rng):
    kernels, x = kernels_of(rng, (6, 5), (5, 4)), jnp.asarray(rng.standard_normal((50, 6)) ** 3, jnp.float32)
    found = jn.weight_norms.data_dependent_init([(dense(v), jax.nn.relu) for v in kernels], x)
    for v, (g, b) in zip(kernels, found, strict=True):
        y = jnp.matmul(x, jn.weight_norm(v, g)) + b[None]
        np.testing.assert_allclose(y.mean(0), np.zeros(v.shape[1]), atol=1e-5)
        np.testing.assert_allclose(y.var(0), np.ones(v.shape[1]), rtol=1e-4)
        x = jax.nn.relu(y)


def test_convolutions_measure_over_positions_too(rng):
    (kernel,) = kernels_of(rng, (3, 3, 2, 4))
    images = jnp.asarray(rng.standard_normal((5, 6, 6, 2)) + 1, jnp.float32)

    def convolve(x):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, jn.weight_norm(kernel), (1, 1), "VALID", dimension_numbers=numbers)

    ((g, b),) = jn.weight_norms.data_dependent_init([(convolve, jax.nn.relu)], images)
    t = np.asarray(convolve(images), np.float64).reshape(-1, 4)
    np.testing.assert_allclose(g, 1 / t.std(0), rtol=1e-4)
    np.testing.assert_allclose(b, -t.mean(0) / t.std(0), rtol=1e-3, atol=1e-4)


def test_gates_are_units_of_two_axes(rng):
    kernels, x = kernels_of(rng, (6, 4, 3)), rng.standard_normal((7, 5, 6))
    ((g, b),) = jn.weight_norms.data_dependent_init(
        [(dense(kernels[0]), jnp.tanh)], jnp.asarray(x, jnp.float32), feature_axes=2
    )
    ((want_g, want_b),) = oracle(kernels, x)
    assert g.shape == b.shape == (4, 3)
    np.testing.assert_allclose(g, want_g, rtol=1e-4)
    np.testing.assert_allclose(b, want_b, rtol=1e-3, atol=1e-5)


def test_padding_reaches_nothing(rng):
    kernels, x = kernels_of(rng, (6, 5), (5, 4)), jnp.asarray(rng.standard_normal((8, 6)), jnp.float32)
    layers = [(dense(v), jnp.tanh) for v in kernels]
    real = jnp.arange(8) < 5
    padded = jn.weight_norms.data_dependent_init(layers, jnp.where(real[:, None], x, jnp.nan), where=real)
    alone = jn.weight_norms.data_dependent_init(layers, x[:5])
    chex.assert_trees_all_close(padded, alone, rtol=1e-4, atol=1e-5)


def test_a_mapped_batch_counts_as_one(rng):
    kernels, x = kernels_of(rng, (6, 5), (5, 4)), jnp.asarray(rng.standard_normal((8, 6)), jnp.float32)
    layers = [(dense(v), jnp.tanh) for v in kernels]
    mapped = jax.vmap(lambda x: jn.weight_norms.data_dependent_init(layers, x, axis_name="parts"), axis_name="parts")(
        x.reshape(2, 4, 6)
    )
    for a, b in zip(
        jax.tree.leaves(mapped), jax.tree.leaves(jn.weight_norms.data_dependent_init(layers, x)), strict=True
    ):
        np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5)


def test_units_without_spread_keep_their_scale():
    layers = [(lambda x: x, jnp.tanh)]
    ((g, b),) = jn.weight_norms.data_dependent_init(layers, jnp.asarray([[3.0, 1.0], [3.0, 5.0]]), init_scale=2.0)
    np.testing.assert_allclose(g, [2.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(b, [-6.0, -3.0], rtol=1e-6)


def test_low_precision_keeps_its_dtype(rng):
    kernels, x = kernels_of(rng, (6, 5)), jnp.asarray(rng.standard_normal((20, 6)), jnp.bfloat16)
    ((g, b),) = jn.weight_norms.data_dependent_init([(dense(kernels[0].astype(jnp.bfloat16)), jnp.tanh)], x)
    assert g.dtype == b.dtype == jnp.bfloat16
    ((want_g, _),) = oracle(kernels, x)
    np.testing.assert_allclose(np.asarray(g, np.float64), want_g, rtol=3e-2)
