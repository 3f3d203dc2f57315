"""The highway layer: its equation in NumPy, closed and open gates, normalizers, masks, dtypes."""

import dataclasses
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxnorm as jn
from tests import cases
from tests.cells.oracles import by_gate, sigmoid, to_numpy
from tests.tools.annotations import no_annotation_checks
from tests.zoo.cells.relative_tools import bn, features_of, ln, part

F = 4
NORMS = {"plain": (None, jn.Identity()), "ln": (ln, jn.LayerNorm()), "bn": (bn, jn.BatchNorm())}


def oracle(x, p, norm=None, phi=np.tanh):
    """Srivastava et al.: y = H T + x (1 - T)."""
    h, t = (x @ p.kernel[:, gate] for gate in range(2))
    if norm is not None:
        h, t = norm(h, part(p.norm, features_of(0, F))), norm(t, part(p.norm, features_of(1, F)))
    b_h, b_t = by_gate(p.bias, 2)
    gate = sigmoid(t + b_t)
    return phi(h + b_h) * gate + x * (1 - gate)


def random(layer, rng, dtype=jnp.float32, rows=5):
    shapes = jax.eval_shape(lambda key: layer.init(key, F), jax.random.key(0))
    return cases.randomize(shapes, rng, dtype), jnp.asarray(rng.standard_normal((rows, F)), dtype)


@pytest.mark.parametrize("norms", NORMS)
def test_highway_is_its_equation(norms, x64, rng):
    norm, spec = NORMS[norms]
    layer = jn.zoo.Highway(norm=spec)
    params, x = random(layer, rng, jnp.float64)
    y, measured = layer(params, x)
    np.testing.assert_allclose(y, oracle(np.asarray(x), to_numpy(params), norm), rtol=1e-10, atol=1e-12)
    if norms == "plain":
        np.testing.assert_allclose(jn.zoo.highway(x, params.kernel, params.bias), y, rtol=1e-12)
        relu = jn.zoo.highway(x, params.kernel, params.bias, activation_fn=jax.nn.relu)
        expected = oracle(np.asarray(x), to_numpy(params), phi=lambda v: np.maximum(v, 0))
        np.testing.assert_allclose(relu, expected, rtol=1e-10, atol=1e-12)
    if norms == "bn":
        assert measured.mean.shape == (2 * F,)
        np.testing.assert_allclose(layer(params, x, measured)[0], y, rtol=1e-9)
        folded = layer.update_running(layer.initial_stats(F), measured)
        np.testing.assert_allclose(folded.mean, 0.01 * measured.mean, rtol=1e-5)


def test_closed_gate_lets_x_pass_and_open_gate_transforms(rng):
    params, x = random(jn.zoo.Highway(), rng)
    kernel = params.kernel
    row = jnp.ones((F,))
    closed = jn.zoo.highway(x, kernel, jnp.concatenate([row, -100 * row]))
    np.testing.assert_array_equal(closed, x)
    opened = jn.zoo.highway(x, kernel, jnp.concatenate([row, 100 * row]))
    np.testing.assert_allclose(opened, np.tanh(np.asarray(x) @ np.asarray(kernel[:, 0]) + 1), rtol=1e-5, atol=1e-6)


def test_masked_rows_are_inert(x64, rng):
    layer = jn.zoo.Highway(norm=jn.BatchNorm())
    params, x = random(layer, rng, jnp.float64)
    real = jnp.array([True, False, True, True, False])
    dirty = jnp.where(real[:, None], x, jnp.nan)

    def loss(params, x):
        y, measured = layer(params, x, where=real)
        return jnp.sum(jnp.square(y)), (y, measured)

    (_, (y, measured)), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, dirty)
    alone, moments = layer(params, x[real])
    np.testing.assert_allclose(y[real], alone, rtol=1e-10)
    assert not jnp.any(y[~real])
    np.testing.assert_allclose(measured.mean, moments.mean, rtol=1e-10)
    chex.assert_tree_all_finite(gradients)
    assert not jnp.any(gradients[1][~real])


def test_gradients_against_finite_differences(x64, rng):
    layer = jn.zoo.Highway(norm=jn.LayerNorm())
    params, x = random(layer, rng, jnp.float64, 2)
    check_grads(jax.jit(lambda p, x: layer(p, x)[0]), (params, x), order=1, modes=["fwd", "rev"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_in_and_out(dtype, rng):
    layer = jn.zoo.Highway(norm=jn.LayerNorm())
    params, x = random(layer, rng)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    y, _ = layer(params, x.astype(dtype))
    assert y.dtype == dtype
    exact, _ = layer(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params), x.astype(dtype).astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.03)


def test_fresh_weights(key):
    params = jn.zoo.Highway(transform_bias=-3.0).init(key, F)
    np.testing.assert_array_equal(params.bias, np.repeat([0.0, -3.0], F))
    shifted = jn.zoo.Highway(norm=jn.LayerNorm(), use_bias=False).init(key, F)
    assert shifted.bias is None
    np.testing.assert_array_equal(shifted.norm.bias, np.repeat([0.0, -1.0], F))


def test_layers_are_values():
    layer = jn.zoo.Highway(norm=jn.LayerNorm(), activation_fn=jax.nn.relu)
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(dataclasses.replace(layer)) == hash(layer)
    assert dataclasses.replace(layer, transform_bias=-2.0) != layer


def test_errors(rng):
    params, x = random(jn.zoo.Highway(), rng)
    with pytest.raises(TypeError, match="Highway: norm must be a normalizer"), no_annotation_checks():
        jn.zoo.Highway(norm=jn.zoo.Highway())
    message = r"kernel must have shape \(F, 2, F\) = \(3, 2, 3\), got \(4, 2, 4\)"
    with pytest.raises(ValueError, match="highway: " + message), no_annotation_checks():
        jn.zoo.highway(x[:, :3], params.kernel)
    with pytest.raises(ValueError, match="Highway: " + message), no_annotation_checks():
        jn.zoo.Highway()(params, x[:, :3])
    with (
        pytest.raises(ValueError, match=r"highway: bias must have shape \(2F,\) = \(8,\), got \(4,\)"),
        no_annotation_checks(),
    ):
        jn.zoo.highway(x, params.kernel, params.bias[:F])
    with pytest.raises(TypeError, match="highway: x must have a real floating-point dtype"), no_annotation_checks():
        jn.zoo.highway(x.astype(int), params.kernel)
