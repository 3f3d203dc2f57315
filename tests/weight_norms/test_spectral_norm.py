"""What is peculiar to spectral normalization: the power iteration, its state, and the gradient that it leaves out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.weight_norms import oracles


def kernel_of(rng, shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(("shape", "axis"), [((5, 4), None), ((4, 3, 4), 0), ((3, 2, 2, 4), None), ((3, 2, 4), (0, 1))])
def test_power_iteration_is_algorithm_1(rng, key, shape, axis):
    kernel = kernel_of(rng, shape)
    _, state = jn.SpectralNorm(axis).init(kernel, key)
    for iterations in (0, 1, 3):
        made, after = jn.spectral_norm(kernel, state, iterations=iterations, axis=axis)
        u, v = oracles.power_iteration(kernel, *(np.asarray(a, np.float64) for a in state), iterations, axis)
        np.testing.assert_allclose(after.u, u, atol=1e-5)
        np.testing.assert_allclose(after.v, v, atol=1e-5)
        np.testing.assert_allclose(made, oracles.spectral_norm(kernel, u, v, None, axis), atol=1e-5)


def test_many_iterations_find_the_largest_singular_value(rng, key):
    kernel = kernel_of(rng, (4, 3, 4))
    spec = jn.SpectralNorm(0, iterations=60, use_scale=True)
    params, state = spec.init(kernel, key)
    largest = np.linalg.svd(oracles.as_rows(kernel, 0)[0], compute_uv=False)[0]
    np.testing.assert_allclose(params.scale, largest, rtol=1e-5)
    made = jax.jit(lambda params, state: spec(params, spec.advance(params, state)))(params, state)
    np.testing.assert_allclose(made, kernel, rtol=1e-3, atol=1e-4)  # the scale begins as sigma: nothing changed
    made, _ = jn.spectral_norm(kernel, state, iterations=60, axis=0)
    np.testing.assert_allclose(np.linalg.svd(oracles.as_rows(made, 0)[0], compute_uv=False)[0], 1.0, rtol=1e-4)


def test_a_fresh_state_has_unit_vectors_that_belong_together(rng, key):
    kernel = kernel_of(rng, (5, 4))
    _, state = jn.SpectralNorm().init(kernel, key)
    rows, _ = oracles.as_rows(kernel)
    np.testing.assert_allclose(np.linalg.norm(state.u), 1.0, rtol=1e-6)
    v = np.asarray(state.u, np.float64) @ rows
    np.testing.assert_allclose(state.v, v / np.linalg.norm(v), atol=1e-6)
    _, other = jn.SpectralNorm().init(kernel, jax.random.key(1))
    assert np.abs(other.u - state.u).max() > 0.1


def test_inference_repeats_the_kernel_of_the_last_training_step(rng, key):
    kernel, spec = kernel_of(rng, (5, 4)), jn.SpectralNorm()
    params, state = spec.init(kernel, key)
    trained, after = jn.spectral_norm(kernel, state)
    np.testing.assert_allclose(spec(params, after), trained, rtol=1e-6)
    np.testing.assert_array_equal(jn.weight_norms.power_iteration(kernel, after, iterations=0).u, after.u)
    np.testing.assert_array_equal(spec.advance(params, state).u, after.u)


def test_the_gradient_is_equation_12_with_constant_singular_vectors(rng, key):
    # dL/dW = (dL/dW_bar - <dL/dW_bar, W_bar> u v^T) / sigma, whatever the iterations before.
    kernel, cotangent = kernel_of(rng, (5, 4)), kernel_of(rng, (5, 4))
    _, state = jn.SpectralNorm().init(kernel, key)
    made, pull_back, after = jax.vjp(lambda kernel: jn.spectral_norm(kernel, state, iterations=2), kernel, has_aux=True)
    u, v = (np.asarray(a, np.float64) for a in after)
    w, g = np.asarray(kernel, np.float64).T, np.asarray(cotangent, np.float64).T
    sigma = u @ w @ v
    want = (g - (g * w / sigma).sum() * np.outer(u, v)) / sigma
    np.testing.assert_allclose(pull_back(cotangent)[0], want.T, atol=1e-5)
    np.testing.assert_allclose(made, (w / sigma).T, atol=1e-6)

    def through_state(state):
        made, after = jn.spectral_norm(kernel, state)
        return jnp.sum(made) + jnp.sum(after.u)

    assert not any(leaf.any() for leaf in jax.grad(through_state)(state))


def test_a_kernel_that_was_zero_is_found_when_it_grows(rng, key):
    spec = jn.SpectralNorm(iterations=40)
    zero = jnp.zeros((5, 4))
    params, state = spec.init(zero, key)
    state = spec.advance(params, state)
    assert jnp.any(state.u != 0), "a zero vector could not be improved again"
    params = params._replace(kernel=kernel_of(rng, (5, 4)))
    made = spec(params, spec.advance(params, state))
    np.testing.assert_allclose(np.linalg.svd(made, compute_uv=False)[0], 1.0, rtol=1e-3)


def test_a_matrix_for_each_gate_is_a_vmap(rng, key):
    gates, spec = kernel_of(rng, (4, 3, 4)), jn.SpectralNorm(iterations=40)
    params, state = jax.vmap(spec.init, in_axes=(1, 0))(gates, jax.random.split(key, 3))
    made = jax.vmap(lambda params, state: spec(params, spec.advance(params, state)))(params, state)
    for gate in range(3):
        largest = np.linalg.svd(gates[:, gate], compute_uv=False)[0]
        np.testing.assert_allclose(made[gate], gates[:, gate] / largest, rtol=1e-3, atol=1e-5)
