"""Values and gradients of every row over the range of float32, against the equations in NumPy at float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.weight_norms import direction
from tests import cases
from tests.weight_norms import oracles

# Where a kernel is small beside epsilon the equations have it: below, epsilon stands only where kernels are large.
LARGE, SMALL = (1.0, 1e15, 1e18, 1e19, 1e20, 1e25, 1e30), (1e-10, 1e-20, 1e-30)


def numpy_gradient(spec, params, state, cotangent):
    """By central differences at float64, of weights near one, whatever the size of the kernel."""
    kernel = np.asarray(params.kernel, np.float64)
    size = np.abs(kernel).max()
    gradient = np.zeros_like(kernel)
    for place in np.ndindex(kernel.shape):
        step = np.zeros_like(kernel)
        step[place] = 1e-5 * size
        ahead, behind = (oracles.of_spec(spec, params._replace(kernel=kernel + s * step), state) for s in (1, -1))
        gradient[place] = ((ahead - behind) * cotangent).sum() / (2 * step[place])
    return gradient


def scaled(case, rng, size, epsilon):
    """The spec and weights of a row with a kernel of the given size, and a state that fits it."""
    spec = case.spec
    if not epsilon and hasattr(spec, "epsilon"):
        spec = dataclasses.replace(spec, epsilon=0.0)
    params, state = cases.random_weights(case._replace(spec=spec), rng)
    params = params._replace(kernel=(params.kernel * np.float32(size)).astype(jnp.float32))
    return spec, params, spec.advance(params, state)


def check(case, rng, size, epsilon):
    spec, params, state = scaled(case, rng, size, epsilon)
    cotangent = rng.standard_normal(case.shape)
    made, pull_back = jax.vjp(lambda kernel: spec(params._replace(kernel=kernel), state), params.kernel)
    (gradient,) = pull_back(jnp.asarray(cotangent, jnp.float32))
    along = jnp.asarray(np.float32(size) * rng.standard_normal(case.shape), jnp.float32)
    _, forward = jax.jvp(lambda kernel: spec(params._replace(kernel=kernel), state), (params.kernel,), (along,))
    want = numpy_gradient(spec, params, state, cotangent)
    np.testing.assert_allclose(made, oracles.of_spec(spec, params, state), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient, np.float64) * size, want * size, rtol=2e-4, atol=2e-4)
    both = (np.asarray(forward, np.float64) * cotangent).sum(), (want * np.asarray(along, np.float64)).sum()
    np.testing.assert_allclose(*both, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("case", cases.WEIGHTS, ids=str)
def test_large_kernels(case, size, rng):
    check(case, rng, size, epsilon=True)


@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("case", cases.WEIGHTS, ids=str)
def test_small_kernels_without_epsilon(case, size, rng):
    check(case, rng, size, epsilon=False)


def test_a_standardization_of_small_kernels_keeps_its_epsilon(rng):
    """The equation: far below epsilon it divides by epsilon, and so does the gradient."""
    kernel, cotangent = (rng.standard_normal((6, 3)) for _ in range(2))
    made, pull_back = jax.vjp(jn.weight_standardization, jnp.asarray(1e-20 * kernel, jnp.float32))
    np.testing.assert_allclose(made, (kernel - kernel.mean(0)) * 1e-15, rtol=1e-4, atol=1e-19)
    want = (cotangent - cotangent.mean(0)) * 1e5
    np.testing.assert_allclose(pull_back(jnp.asarray(cotangent, jnp.float32))[0], want, rtol=1e-4, atol=1e-1)


def test_the_derivative_of_a_plain_division_is_caught(monkeypatch, rng):
    monkeypatch.setattr(direction, "quotient", lambda x, divisor: x / divisor)
    (case,) = (case for case in cases.WEIGHTS if case.name == "weight_standardization_unbiased")
    check(case, rng, 1.0, epsilon=True)
    with pytest.raises(AssertionError):
        check(case, rng, 1e20, epsilon=True)
