"""What is peculiar to each reparametrization: gradients in closed form, forms of paper and code, initial values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.weight_norms import oracles


def float32(array):
    return jnp.asarray(array, jnp.float32)


# ---- weight normalization


def test_gradients_of_weight_norm_are_equation_3(rng):
    v, g, dw = (rng.standard_normal(shape) for shape in ((5, 3), 3, (5, 3)))
    length = np.linalg.norm(v, axis=0)
    dg = (dw * v).sum(0) / length
    dv = g / length * dw - g * dg / length**2 * v
    _, pull_back = jax.vjp(lambda v, g: jn.weight_norm(v, g), float32(v), float32(g))
    got = pull_back(float32(dw))
    np.testing.assert_allclose(got[0], dv, atol=1e-5)
    np.testing.assert_allclose(got[1], dg, atol=1e-5)


def test_gradient_descent_lengthens_v_as_the_paper_says(rng):
    # |v'| = sqrt(1 + c^2) |v| with c = |dv| / |v|.
    v = float32(rng.standard_normal((5, 3)))
    step = 0.3 * jax.grad(lambda v: jnp.sum(jnp.sin(jn.weight_norm(v))))(v)
    before, after, change = (np.linalg.norm(a, axis=0) for a in (v, v - step, step))
    np.testing.assert_allclose(after, np.sqrt(1 + (change / before) ** 2) * before, rtol=1e-6)


def test_without_an_axis_the_last_one_is_that_of_the_units(rng):
    for shape, axis in (
        ((5,), 0),
        ((5, 4), 0),
        ((3, 2, 4, 5), (0, 1, 2)),
        ((2, 2, 2, 3, 4), (0, 1, 2, 3)),
    ):
        kernel = float32(rng.standard_normal(shape))
        np.testing.assert_array_equal(jn.weight_norms.unit_norm(kernel), jn.weight_norms.unit_norm(kernel, axis=axis))
        lengths = jn.weight_norms.unit_lengths(kernel)
        inputs = oracles.input_axes(None, len(shape))
        assert lengths.shape == tuple(size for a, size in enumerate(shape) if a not in inputs)
        np.testing.assert_allclose(lengths, np.sqrt((np.asarray(kernel) ** 2).sum(inputs)), rtol=1e-6)
    gates = float32(rng.standard_normal((5, 4, 3)))
    apart = jax.vmap(jn.weight_norms.unit_norm, in_axes=1, out_axes=1)(gates)
    np.testing.assert_allclose(jn.weight_norms.unit_norm(gates, axis=0), apart, rtol=1e-6)


def test_three_axes_have_to_be_named(rng, key):
    """They may be gates (I, G, H), a one-dimensional convolution (k, I, O), or attention in either order."""
    kernel = float32(rng.standard_normal((3, 4, 6)))
    state = jn.weight_norms.SpectralState(jnp.ones(6), jnp.ones(12))
    message = (
        r": kernel has three axes, \(3, 4, 6\), which do not say where .*axis=0 for gates .*axis=\(0, 1\) for a one"
    )
    functions = {
        "weight_norm": jn.weight_norm,
        "bounded_weight_norm": lambda kernel, **more: jn.weight_norms.bounded_weight_norm(kernel, jnp.ones(()), **more),
        "centered_weight_norm": jn.weight_norms.centered_weight_norm,
        "weight_standardization": jn.weight_standardization,
        "unit_norm": jn.weight_norms.unit_norm,
        "unit_lengths": jn.weight_norms.unit_lengths,
        "spectral_norm": lambda kernel, **more: jn.spectral_norm(kernel, state, iterations=0, **more),
        "power_iteration": lambda kernel, **more: jn.weight_norms.power_iteration(kernel, state, **more),
    }
    for name, function in functions.items():
        with pytest.raises(ValueError, match=r"^(power_iteration|" + name + ")" + message):
            function(kernel)
        function(kernel, axis=(0, 1))
    for spec in (
        jn.WeightNorm(),
        jn.weight_norms.BoundedWeightNorm(),
        jn.weight_norms.CenteredWeightNorm(),
        jn.WeightStandardization(),
        jn.SpectralNorm(),
        jn.weight_norms.UnitNorm(),
    ):
        with pytest.raises(ValueError, match=type(spec).__name__ + "|unit_lengths"):
            spec.init(kernel, key)
        params, state = dataclasses.replace(spec, axis=(0, 1)).init(kernel, key)
        with pytest.raises(ValueError, match=message):
            spec(params, state)


# ---- bounded weight normalization


def test_bounded_weight_norm_has_the_mean_length_of_the_first_kernel(rng):
    kernel = rng.standard_normal((5, 3, 2))
    spec = jn.weight_norms.BoundedWeightNorm(axis=0)
    params, state = spec.init(float32(kernel))
    rho = np.linalg.norm(kernel, axis=0).mean()
    np.testing.assert_allclose(state.rho, rho, rtol=1e-6)
    assert params.scale is None
    later = params._replace(kernel=params.kernel * 9.0)  # training makes v longer, never w
    np.testing.assert_allclose(
        jn.weight_norms.unit_lengths(spec(later, state), axis=0), np.full((3, 2), rho), rtol=1e-6
    )


def test_bounded_gains_keep_their_length_together(rng):
    kernel = rng.standard_normal((5, 4))
    spec = jn.weight_norms.BoundedWeightNorm("gain_bounded")
    params, state = spec.init(float32(kernel))
    np.testing.assert_allclose(state.rho, np.linalg.norm(kernel), rtol=1e-6)
    w = spec(params._replace(scale=float32([5.0, -1.0, 0.0, 2.0])), state)
    np.testing.assert_allclose(np.linalg.norm(w), np.linalg.norm(kernel), rtol=1e-6)
    np.testing.assert_allclose(
        jn.weight_norms.unit_lengths(w) / state.rho, np.abs([5.0, -1.0, 0.0, 2.0]) / np.sqrt(30), rtol=1e-6
    )


def test_bounded_gains_that_are_all_zero_give_zero(rng):
    kernel, rho = float32(rng.standard_normal((5, 4))), jnp.float32(2.0)

    def total(kernel, scale):
        return jnp.sum(jnp.sin(jn.weight_norms.bounded_weight_norm(kernel, rho, scale)))

    gradients = jax.grad(total, argnums=(0, 1))(kernel, jnp.zeros(4))
    assert not jn.weight_norms.bounded_weight_norm(kernel, rho, jnp.zeros(4)).any()
    assert not any(leaf.any() for leaf in gradients)


# ---- centered weight normalization, weight standardization


def test_centered_weight_norm_of_the_paper_and_of_its_code(rng):
    kernel = 1e-5 * rng.standard_normal((4, 3))  # so short that an epsilon shows
    params, _ = jn.weight_norms.CenteredWeightNorm().init(float32(kernel))
    paper, code = (oracles.centered_weight_norm(kernel, *of) for of in ((1.0,), (1.414, None, 1e-5)))
    np.testing.assert_allclose(jn.weight_norms.CenteredWeightNorm()(params), paper, rtol=1e-4)
    np.testing.assert_allclose(
        jn.weight_norms.CenteredWeightNorm(scale_init=1.414, epsilon=1e-5)(params), code, rtol=1e-4
    )
    assert np.abs(paper - code).max() > 0.1
    np.testing.assert_allclose(
        jn.weight_norms.unit_lengths(jn.weight_norms.CenteredWeightNorm()(params)), np.ones(3), rtol=1e-5
    )


def test_a_learned_scale_begins_where_it_is_told(rng):
    spec = jn.weight_norms.CenteredWeightNorm(0, learn_scale=True, scale_init=1.414)
    params, _ = spec.init(float32(rng.standard_normal((5, 4, 2))))
    np.testing.assert_array_equal(params.scale, np.full((4, 2), np.float32(1.414)))


def test_standardization_is_centered_weight_norm_times_a_root(rng):
    kernel = float32(rng.standard_normal((3, 2, 4, 5)))
    for ddof, root in ((0, np.sqrt(24)), (1, np.sqrt(23))):
        standardized = jn.weight_standardization(kernel, epsilon=0.0, ddof=ddof)
        np.testing.assert_allclose(standardized, root * jn.weight_norms.centered_weight_norm(kernel), rtol=1e-5)


def test_standardization_divides_by_deviation_plus_epsilon(rng):
    kernel = 1e-5 * rng.standard_normal((6, 3))
    for ddof in (0, 1):
        got = jn.weight_standardization(float32(kernel), ddof=ddof)
        np.testing.assert_allclose(got, oracles.weight_standardization(kernel, ddof=ddof), rtol=1e-3)
    # Equal weights: the equation has the derivative (dv - mean(dv)) / epsilon.
    _, pull_back = jax.vjp(jn.weight_standardization, jnp.full((4, 1), 0.1))
    (gradient,) = pull_back(float32([[1.0], [0.0], [0.0], [0.0]]))
    np.testing.assert_allclose(gradient[:, 0], np.array([0.75, -0.25, -0.25, -0.25]) / 1e-5, rtol=1e-5)
