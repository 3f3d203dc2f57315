"""Fisher metrics in closed form, against the second derivative of the Kullback-Leibler divergence in float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import analysis

CASES, INPUTS, OUTPUTS = 7, 4, 3
FAMILIES = (("gaussian", 0.6), ("bernoulli", 1.0), ("categorical", 1.0))
NORMS = ("weight", "batch", "layer")
every_family = pytest.mark.parametrize(("family", "dispersion"), FAMILIES, ids=[name for name, _ in FAMILIES])
every_norm = pytest.mark.parametrize("norm", NORMS)
pytestmark = pytest.mark.usefixtures("x64")


def predict(theta, xs, norm):
    """The outputs, from the parameters (w_i, b_i, g_i) of each output in a row."""
    w, b, g = theta[:, :INPUTS], theta[:, INPUTS], theta[:, INPUTS + 1] if norm != "none" else 1.0
    a = jnp.matmul(xs, w.T)
    if norm == "weight":
        a = a / jnp.linalg.norm(w, axis=1)[None]
    if norm in ("batch", "layer"):
        axis = ("batch", "layer").index(norm)
        a = a - a.mean(axis, keepdims=True)
        a = a / jnp.sqrt((a**2).mean(axis, keepdims=True))
    return a * jnp.broadcast_to(g, b.shape)[None] + b[None]


def divergence(z, other, family, dispersion):
    """KL of the model with outputs z from the one with the others, for the mean case."""
    if family == "gaussian":
        each = ((z - other) ** 2).sum(-1) / (2 * dispersion)
    elif family == "bernoulli":
        p = 1 / (1 + jnp.exp(-z))
        each = (p * (z - other) - jnp.logaddexp(0.0, z) + jnp.logaddexp(0.0, other)).sum(-1)
    else:
        logs, others = jax.nn.log_softmax(z), jax.nn.log_softmax(other)
        each = (jnp.exp(logs) * (logs - others)).sum(-1)
    return each.mean()


def measured(theta, xs, norm, family, dispersion):
    """The second derivative of the divergence at no change, as blocks."""
    here = predict(theta, xs, norm)
    return jax.jit(jax.hessian(lambda t: divergence(here, predict(t, xs, norm), family, dispersion)))(theta)


def draw(rng, norm):
    width = INPUTS + (1 if norm == "none" else 2)
    theta = rng.standard_normal((OUTPUTS, width))
    return jnp.asarray(theta), jnp.asarray(rng.standard_normal((CASES, INPUTS)) + 0.3)


def params_of(theta):
    gain = theta[:, INPUTS + 1] if theta.shape[1] > INPUTS + 1 else None
    return analysis.GLMParams(theta[:, :INPUTS].T, theta[:, INPUTS], gain)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


@every_family
def test_ordinary_model(rng, family, dispersion):
    theta, xs = draw(rng, "none")
    got = analysis.glm_fisher(params_of(theta), xs, family=family, dispersion=dispersion)
    close(got, measured(theta, xs, "none", family, dispersion))


@every_family
@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_block_formula_is_exact_for_weight_and_batch_normalization(rng, norm, family, dispersion):
    theta, xs = draw(rng, norm)
    got = analysis.normalized_glm_fisher(params_of(theta), xs, norm=norm, family=family, dispersion=dispersion)
    close(got, measured(theta, xs, norm, family, dispersion))


@every_family
def test_layer_normalization_exactly_and_by_the_block_formula(rng, family, dispersion):
    theta, xs = draw(rng, "layer")
    options = {"family": family, "dispersion": dispersion}
    want = measured(theta, xs, "layer", family, dispersion)
    close(analysis.layer_norm_glm_fisher(params_of(theta), xs, **options), want)
    blocks = analysis.normalized_glm_fisher(params_of(theta), xs, norm="layer", **options)
    assert np.abs(blocks - want).max() > 0.01  # the derivatives by the weights of other outputs are missing
    close(blocks[:, INPUTS:, :, INPUTS:], want[:, INPUTS:, :, INPUTS:])  # biases and gains are right
    jacobian = np.asarray(jax.jacobian(lambda t: predict(t, xs, "layer"))(theta))
    own = np.einsum("nkkp->nkp", jacobian)
    covariance = np.asarray(analysis.output_covariance(predict(theta, xs, "layer"), **options))
    close(blocks, np.einsum("nij,nip,njq->ipjq", covariance, own, own) / (CASES * dispersion**2))


@every_norm
def test_effective_inputs_are_the_derivative(rng, norm):
    theta, xs = draw(rng, norm)
    w, g = theta[:, :INPUTS], theta[:, -1]
    jacobian = np.einsum("nkkp->nkp", np.asarray(jax.jacobian(lambda t: predict(t, xs, norm))(theta)))[..., :INPUTS]
    a = np.asarray(xs) @ np.asarray(w).T
    scale = {
        "weight": np.broadcast_to(np.linalg.norm(w, axis=1), a.shape),
        "batch": np.broadcast_to(a.std(0), a.shape),
        "layer": np.broadcast_to(a.std(1, keepdims=True), a.shape),
    }[norm]
    close(analysis.effective_inputs(w.T, xs, norm=norm), jacobian * (scale / np.asarray(g))[..., None])


@every_family
def test_any_model_by_automatic_differentiation(rng, family, dispersion):
    theta, xs = draw(rng, "batch")
    got = analysis.fisher_metric(
        lambda t, xs: predict(t["a"], xs, "batch"), {"a": theta}, xs, family=family, dispersion=dispersion
    )
    close(got.reshape(theta.shape * 2), measured(theta, xs, "batch", family, dispersion))


@every_family
@every_norm
def test_metric_along_the_gains(rng, norm, family, dispersion):
    theta, xs = draw(rng, norm)
    got = analysis.gain_metric(params_of(theta), xs, norm=norm, family=family, dispersion=dispersion)
    close(got, measured(theta, xs, norm, family, dispersion)[:, -1, :, -1])


@every_family
def test_metric_of_an_ordinary_model_along_the_lengths_of_its_weights(rng, family, dispersion):
    theta, xs = draw(rng, "none")
    whole = np.asarray(measured(theta, xs, "none", family, dispersion))[:, :INPUTS, :, :INPUTS]
    along = np.asarray(theta[:, :INPUTS])
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    got = analysis.gain_metric(params_of(theta), xs, norm="none", family=family, dispersion=dispersion)
    close(got, np.einsum("ip,ipjq,jq->ij", along, whole, along))


def test_published_gain_metric_of_batch_normalization(rng):
    theta, xs = draw(rng, "batch")
    options = {"norm": "batch", "family": "gaussian", "dispersion": 0.6}
    params = params_of(theta)
    close(analysis.gain_metric(params, xs, **options, unit_variance=True), np.eye(OUTPUTS) / 0.6)
    close(analysis.gain_metric(params, xs, **options), np.eye(OUTPUTS) / 0.6)
    exact, printed = (
        analysis.gain_metric(params, xs, norm="batch", family="bernoulli", unit_variance=unit) for unit in (False, True)
    )
    p = 1 / (1 + np.exp(-np.asarray(predict(theta, xs, "batch"))))
    close(printed, np.diag((p * (1 - p)).mean(0)))
    assert np.abs(exact - printed).max() > 0.01


@pytest.mark.parametrize(("norm", "growth"), [("batch", 1.0), ("layer", 1.0), ("weight", 9.0), ("none", 9.0)])
def test_gain_metrics_when_the_data_are_rescaled(rng, norm, growth):
    theta, xs = draw(rng, norm)
    before, after = (analysis.gain_metric(params_of(theta), factor * xs, norm=norm) for factor in (1.0, 3.0))
    close(after, growth * before)


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_longer_weights_reduce_the_learning_rate_to_a_quarter(rng, norm):
    theta, xs = draw(rng, norm)
    longer = theta.at[1, :INPUTS].multiply(2.0)
    close(predict(longer, xs, norm), predict(theta, xs, norm))
    one, two = (
        np.asarray(analysis.normalized_glm_fisher(params_of(t), xs, norm=norm, family="categorical"))
        for t in (theta, longer)
    )
    weights = slice(0, INPUTS)
    close(two[1, weights, 1, weights], one[1, weights, 1, weights] / 4)
    close(two[1, weights, 0, weights], one[1, weights, 0, weights] / 2)
    close(two[0, weights, 2, weights], one[0, weights, 2, weights])
    close(two[:, INPUTS:, :, INPUTS:], one[:, INPUTS:, :, INPUTS:])


def test_longer_weights_in_layer_normalization(rng):
    theta, xs = draw(rng, "layer")
    one, two = (
        np.asarray(analysis.layer_norm_glm_fisher(params_of(t), xs, family="bernoulli"))
        for t in (theta, theta.at[:, :INPUTS].multiply(2.0))
    )
    close(two[:, :INPUTS, :, :INPUTS], one[:, :INPUTS, :, :INPUTS] / 4)


@every_norm
def test_no_spread_is_finite(norm):
    params = analysis.GLMParams(jnp.zeros((INPUTS, OUTPUTS)), jnp.ones(OUTPUTS), jnp.ones(OUTPUTS))
    xs = jnp.ones((2, INPUTS))
    results = [analysis.normalized_glm_fisher(params, xs, norm=norm), analysis.gain_metric(params, xs, norm=norm)]
    results.append(analysis.layer_norm_glm_fisher(params, xs))
    chex.assert_tree_all_finite(results)
    assert not results[1].any()


def test_errors(rng, unhooked):
    theta, xs = draw(rng, "layer")
    params = params_of(theta)
    plain = params._replace(gain=None)

    def refused(message, function, *args, **options):
        with pytest.raises(ValueError, match=message):
            function(*args, **options)

    refused(r"normalized_glm_fisher: norm must be one of 'weight', 'batch', 'layer'; got 'group'",
            analysis.normalized_glm_fisher, params, xs, norm="group")  # fmt: skip
    refused(r"output_covariance: family must be one of 'gaussian', .*; got 'poisson'",
            analysis.glm_fisher, plain, xs, family="poisson")  # fmt: skip
    refused(r"output_covariance: dispersion must be .* 1 for the bernoulli family, got 2.0",
            analysis.glm_fisher, plain, xs, family="bernoulli", dispersion=2.0)  # fmt: skip
    refused(r"dispersion must be a number above 0, .*, got 0.0", analysis.glm_fisher, plain, xs, dispersion=0.0)
    refused(r"glm_fisher: params must have no gain here, got one", analysis.glm_fisher, params, xs)
    refused(r"layer_norm_glm_fisher: params must have a gain", analysis.layer_norm_glm_fisher, plain, xs)
    refused(r"gain_metric: unit_variance=True is a formula for norm='batch', got norm='layer'",
            analysis.gain_metric, params, xs, norm="layer", unit_variance=True)  # fmt: skip
    refused(r"glm_fisher: xs and params.kernel must have shapes \(N, I\) and \(I, H\), got \(7, 3\)",
            analysis.glm_fisher, plain, xs[:, :3])  # fmt: skip
    refused(r"params.bias must have shape \(H,\) = \(3,\), got \(2,\)",
            analysis.glm_fisher, plain._replace(bias=jnp.ones(2)), xs)  # fmt: skip
