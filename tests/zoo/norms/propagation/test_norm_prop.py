"""Normalization propagation: its constants by other quadratures and by sampling, its layer, and those of its LSTM."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn

HERMITE = np.polynomial.hermite_e.hermegauss(180)


def by_hermite(function):
    """E[f(z)] by Gauss-Hermite quadrature."""
    nodes, weights = HERMITE
    return float(weights @ function(nodes)) / math.sqrt(2 * math.pi)


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def test_rectified_linear_unit_has_the_published_constants():
    found = jn.zoo.activation_moments("relu")
    assert found.mean == pytest.approx(0.398942, abs=5e-7)
    assert found.std == pytest.approx(0.583819, abs=5e-7)
    assert 1 / found.std == pytest.approx(1.712859, abs=5e-7)
    assert found.jacobian == pytest.approx(1.2112, abs=5e-5)
    assert found.jacobian == pytest.approx(math.sqrt(0.5 / 0.340845), rel=1e-6)


@pytest.mark.parametrize("std", [0.1, 1.0, 2.7, 300.0])
def test_closed_form_and_quadrature_agree(std):
    closed = jn.zoo.activation_moments("relu", std=std)
    np.testing.assert_allclose(jn.zoo.activation_moments(lambda z: jnp.maximum(z, 0.0), std=std), closed, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "function", "slope"),
    [
        ("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
        ("sigmoid", sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
        ("softplus", lambda z: np.logaddexp(0, z), sigmoid),
        ("silu", lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    ],
)
@pytest.mark.parametrize("std", [0.5, 1.0])
def test_smooth_functions_against_gauss_hermite(name, function, slope, std):
    mean = by_hermite(lambda z: function(std * z))
    var = by_hermite(lambda z: (function(std * z) - mean) ** 2)
    square = by_hermite(lambda z: slope(std * z) ** 2)
    np.testing.assert_allclose(
        jn.zoo.activation_moments(name, std=std), [mean, math.sqrt(var), math.sqrt(square)], rtol=1e-8, atol=1e-15
    )


@pytest.mark.parametrize("name", ["hard_tanh", "leaky_relu", "elu", "selu", "celu", "gelu", "relu6"])
@pytest.mark.parametrize("std", [1.0, 4.0])
def test_every_name_against_sampling(name, std, rng):
    z = rng.standard_normal(400_000).astype(np.float32) * np.float32(std)
    z = np.concatenate([z, -z])
    values = np.asarray(getattr(jax.nn, name)(z), np.float64)
    found = jn.zoo.activation_moments(name, std=std)
    np.testing.assert_allclose([found.mean, found.std], [values.mean(), values.std()], rtol=1e-2, atol=2e-3)
    steps = 1e-2
    slopes = (np.float64(getattr(jax.nn, name)(z + steps)) - np.float64(getattr(jax.nn, name)(z - steps))) / (2 * steps)
    assert found.slope == pytest.approx(math.sqrt((slopes**2).mean()), rel=2e-2)


def test_constants_are_numbers_inside_a_program_and_half_precision():
    @jax.jit
    def inside(x):
        found = jn.zoo.activation_moments("softplus", std=1.25)
        assert all(type(number) is float for number in found)
        return x * found.mean

    np.testing.assert_allclose(inside(jnp.ones(())), jn.zoo.activation_moments("softplus", std=1.25).mean, rtol=1e-6)


def test_steps_and_saturated_functions_are_integrated_too():
    # sigmoid(c z) for large c is a step: E = 1/2, E[s^2] -> 1/2.
    found = jn.zoo.activation_moments("sigmoid", std=1e4)
    assert found.mean == pytest.approx(0.5, abs=1e-9)
    assert found.std == pytest.approx(0.5, abs=2e-4)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_layers_keep_mean_zero_and_variance_one(activation, rng):
    # Several layers of units with weights of length one, on inputs of mean zero and variance one.
    x = rng.standard_normal((4000, 400))
    for _ in range(3):
        weights = rng.standard_normal((400, 400))
        weights /= np.linalg.norm(weights, axis=0)
        x = np.asarray(jn.zoo.norm_prop(jnp.asarray(x @ weights, jnp.float32), activation=activation), np.float64)
        assert abs(x.mean()) < 0.02
        assert x.var() == pytest.approx(1.0, abs=0.05)


def test_the_equation_of_the_paper(rng):
    x, gamma, beta = rng.standard_normal((2, 3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    want = (np.maximum(gamma * x + beta, 0) - math.sqrt(1 / (2 * math.pi))) / math.sqrt(0.5 * (1 - 1 / math.pi))
    y = jn.zoo.norm_prop(*(jnp.asarray(a, jnp.float32) for a in (x, gamma, beta)))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
    squared = jn.zoo.norm_prop(jnp.asarray(x, jnp.float32), activation=jnp.square)  # E z^2 = 1, Var z^2 = 2
    np.testing.assert_allclose(squared, (x**2 - 1) / math.sqrt(2), rtol=1e-5, atol=1e-6)


def test_initial_gain_makes_the_jacobian_one(rng):
    assert jn.zoo.NormProp().init((2,)).scale.tolist() == pytest.approx([1 / 1.2112] * 2, rel=1e-4)
    assert jn.zoo.NormProp("tanh", scale_init=0.5).init((1,)).scale.tolist() == [0.5]
    weights = rng.standard_normal((300, 300))
    weights /= np.linalg.norm(weights, axis=0)
    norm = jn.zoo.NormProp()
    params = norm.init((300,))
    x = jnp.asarray(rng.standard_normal(300), jnp.float32)
    jacobian = jax.jacobian(lambda x: norm(params, (x @ jnp.asarray(weights, jnp.float32))[None])[0][0])(x)
    assert float(jnp.sqrt(jnp.sum(jacobian**2) / 300)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("combine", ["sum", "independent"])
@pytest.mark.parametrize("scales", [(2.0, 2.0, 1.0), (0.5, 0.5, 0.5)])
def test_variances_of_the_normalized_lstm_by_sampling(rng, combine, scales):
    found = jn.zoo.norm_prop_lstm_variances(
        input_scale=scales[0], recurrent_scale=scales[1], cell_scale=scales[2], combine=combine
    )
    std = scales[0] + scales[1] if combine == "sum" else math.sqrt(scales[0] ** 2 + scales[1] ** 2)
    c = np.zeros(200_000)
    for _ in range(40):
        i, f, g = std * rng.standard_normal((3, c.size))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    assert found.cell == pytest.approx(c.var(), rel=2e-2)
    z, o = rng.standard_normal((2, 1_000_000))
    h = sigmoid(std * o) * np.tanh(scales[2] * z)
    assert found.hidden == pytest.approx(h.var(), rel=1e-2)


def test_variances_follow_the_formula():
    mean = by_hermite(sigmoid)
    var = by_hermite(lambda z: (sigmoid(z) - mean) ** 2)
    tanh = by_hermite(lambda z: np.tanh(z) ** 2)
    found = jn.zoo.norm_prop_lstm_variances(input_scale=0.6, recurrent_scale=0.4)
    assert found.cell == pytest.approx(tanh * (var + mean**2) / (1 - var - mean**2), rel=1e-9)
    assert found.hidden == pytest.approx(tanh * (var + mean**2), rel=1e-9)
    same = jn.zoo.norm_prop_lstm_variances(input_scale=0.6, recurrent_scale=0.8, combine="independent")
    assert same == pytest.approx(found, rel=1e-12)


def test_specs_with_functions_of_ones_own(rng):
    norm = jn.zoo.NormProp(jnp.sin)
    assert norm == jn.zoo.NormProp(jnp.sin)
    assert norm != jn.zoo.NormProp("gelu") == pickle.loads(pickle.dumps(jn.zoo.NormProp("gelu")))
    x = jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)
    y, stats = norm(jn.Affine(None, None), x)
    assert stats == ()
    # E sin z = 0, E sin^2 z = (1 - e^-2) / 2.
    np.testing.assert_allclose(y, np.sin(x) / math.sqrt((1 - math.exp(-2)) / 2), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jn.zoo.NormProp("cubic"), r"NormProp: activation must be one of 'relu', 'tanh', .*; got 'cubic'"),
        (
            lambda: jn.zoo.activation_moments("relu", std=0.0),
            r"activation_moments: std must be above 0 and finite, got 0",
        ),
        (lambda: jn.zoo.NormProp().check_site("LSTM: norm.cell"), r"LSTM: norm.cell: NormProp.* cannot be used inside"),
        (lambda: jn.zoo.norm_prop_lstm_variances(cell_scale=0.0), r"cell_scale, and one of .*, must be above 0"),
        (lambda: jn.zoo.norm_prop_lstm_variances(input_scale=-1.0), r"input_scale must be a number in .*, got -1.0"),
        (lambda: jn.zoo.norm_prop_lstm_variances(combine="both"), r"combine must be one of 'sum', 'independent'; got"),
    ],
)
def test_errors(make, message, unhooked):
    with pytest.raises(ValueError, match=message):
        make()
