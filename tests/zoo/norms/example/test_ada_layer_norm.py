"""What is peculiar to adaptive layer normalization: conditions, modulations, the gate, and its place in a cell."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests import cases
from tests.norms import oracles


def silu(c):
    return c / (1 + np.exp(-c))


def weights(rng, norm, shape):
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), norm.init(shape))


def test_the_map_and_the_normalization_are_those_of_the_paper(rng):
    norm = jn.zoo.AdaLayerNorm(5, use_gate=True)
    params = weights(rng, norm, (4,))
    x, c = rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    kernel, bias = (np.asarray(leaf, np.float64) for leaf in params)
    scale, shift, gate = np.moveaxis(np.einsum("bc,cmf->bmf", silu(c.astype(np.float64)), kernel) + bias, 1, 0)
    modulation = norm.modulation(params, jnp.asarray(c))
    for got, want in zip(modulation, (scale, shift, gate), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
    want = oracles.layer_norm(x, epsilon=1e-6) * (1 + scale) + shift
    np.testing.assert_allclose(norm(params, jnp.asarray(x), condition=jnp.asarray(c))[0], want, rtol=5e-5, atol=5e-5)
    np.testing.assert_allclose(norm(modulation, jnp.asarray(x))[0], want, rtol=5e-5, atol=5e-5)
    y = jn.zoo.ada_layer_norm_zero(jnp.asarray(x), jnp.sin, *modulation)
    np.testing.assert_allclose(y, x + gate * np.sin(want), rtol=2e-4, atol=2e-4)


def test_one_condition_a_sequence(rng):
    norm = jn.zoo.AdaLayerNorm(2)
    params = weights(rng, norm, (4,))
    x, c = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((3, 6, 4), (3, 2)))
    modulation = jax.tree.map(lambda leaf: leaf[:, None], norm.modulation(params, c))
    got, _ = norm(modulation, x)
    each = jax.vmap(lambda x, c: norm(params, x, condition=c)[0])(x, c)
    np.testing.assert_allclose(got, each, atol=2e-6)


def test_fresh_block_is_the_identity_and_learns(rng):
    norm = jn.zoo.AdaLayerNorm(3, use_gate=True)
    params = norm.init((4,))
    x, c = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((5, 4), (5, 3)))

    def block(params):
        return jn.zoo.ada_layer_norm_zero(x, jnp.cos, *norm.modulation(params, c))

    np.testing.assert_array_equal(block(params), x)
    np.testing.assert_allclose(
        norm(params, x, condition=c)[0], oracles.layer_norm(np.asarray(x), epsilon=1e-6), atol=1e-5
    )
    slope = jax.grad(lambda params: jnp.sum(jnp.sin(block(params))))(params)
    # Only the gate has a gradient while it is closed.
    assert not np.asarray(slope.kernel[:, :2]).any()
    assert np.abs(slope.kernel[:, 2]).min() > 1e-4


def test_masked_elements_of_a_block(rng):
    x = rng.standard_normal((2, 4)).astype(np.float32)
    mask = np.array([[True, True, False, True], [True, False, False, True]])
    parts = [jnp.asarray(rng.standard_normal(4), jnp.float32) for _ in range(3)]

    def of(x):
        y = jn.zoo.ada_layer_norm_zero(x, lambda y: y + 1 / y, *parts, where=jnp.asarray(mask))
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradient = jax.value_and_grad(of, has_aux=True)(jnp.asarray(np.where(mask, x, np.nan)))
    assert not np.asarray(y)[~mask].any()
    assert np.isfinite(np.asarray(y)).all()
    scale, shift, gate = (np.asarray(part, np.float64) for part in parts)
    inner = oracles.layer_norm(x, epsilon=1e-6, where=mask) * (1 + scale) + shift
    np.testing.assert_allclose(np.asarray(y)[mask], (x + gate * (inner + 1 / inner))[mask], rtol=1e-4)
    assert np.isfinite(np.asarray(gradient)[mask]).all()


def test_in_a_cell_with_a_condition_an_example(rng):
    # For recurrent networks gain = 1 + scale(c) and bias = shift(c), in each of the cell's layer normalizations.
    cell, norm = jn.ln_lstm(4), jn.zoo.AdaLayerNorm(3)
    params = cases.random_cell_params(cell, rng, 2)
    maps = [weights(rng, norm, shape) for shape in ((16,), (16,), (4,))]
    xs, c = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((5, 3, 2), (3, 3)))

    def one(maps, xs, c):
        modulations = [norm.modulation(site, c) for site in maps]
        sites = jn.CellNorms(*(jn.Affine(1 + m.scale, m.shift) for m in modulations))
        return jn.unroll(cell, params._replace(norm=sites), xs).outputs

    every = jax.vmap(one, in_axes=(None, 1, 0), out_axes=1)
    np.testing.assert_allclose(every(maps, xs, c)[:, 1], one(maps, xs[:, 1], c[1]), atol=1e-5)
    slopes = jax.jit(jax.grad(lambda maps, c: jnp.sum(every(maps, xs, c)), argnums=(0, 1)))(maps, c)
    chex.assert_tree_all_finite(slopes)
    for leaf in jax.tree.leaves(slopes):
        assert np.abs(leaf).max() > 1e-4
    with pytest.raises(ValueError, match=r"LSTM: norm.input: AdaLayerNorm\(.* hands no condition on. Use LayerNorm"):
        jn.LSTM(4, norm=norm)


def test_errors():
    norm = jn.zoo.AdaLayerNorm(3)
    params = norm.init((4,))
    with pytest.raises(ValueError, match=r"AdaLayerNorm.modulation: condition must have shape \(\*B, C\) = \(2, 3\)"):
        norm.modulation(params, jnp.ones((2, 5)))
    with pytest.raises(ValueError, match=r"AdaLayerNorm: condition is given beside a Modulation"):
        norm(norm.modulation(params), jnp.ones((2, 4)), condition=jnp.ones((2, 3)))
    zero = jnp.zeros(4)
    with pytest.raises(ValueError, match=r"ada_layer_norm_zero: block\(y\) must have shape x.shape = \(2, 4\)"):
        jn.zoo.ada_layer_norm_zero(jnp.ones((2, 4)), lambda y: y[:1], zero, zero, zero)
    with pytest.raises(ValueError, match=r"AdaLayerNorm: condition_features must be a positive integer, got 0"):
        jn.zoo.AdaLayerNorm(0)
