"""Residual network and VGG against loops in NumPy, with random numbers in every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from experiments.models.convnets import VGG, ResNet
from experiments.models.normalizers import WrongConstant


def convolve(x, kernel, stride):
    """Zeros around, as few before as possible: what TensorFlow calls SAME."""
    size, window = x.shape[1], kernel.shape[0]
    out = -(-size // stride)
    missing = max((out - 1) * stride + window - size, 0)
    x = np.pad(x, ((0, 0), (missing // 2, missing - missing // 2), (missing // 2, missing - missing // 2), (0, 0)))
    y = np.zeros((len(x), out, out, kernel.shape[-1]))
    for i in range(out):
        for j in range(out):
            patch = x[:, i * stride : i * stride + window, j * stride : j * stride + window]
            y[:, i, j] = np.tensordot(patch, kernel, 3)
    return y


def batch_normalize(x, p):
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    return (x - mean) / np.sqrt(deviation**2 + 1e-5) * p["scale"] + p["bias"]


def random_variables(model, x):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: model.init(key, x, train=False), jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape), shapes["params"])
    return {"params": params, "batch_stats": jax.tree.map(lambda leaf: rng.random(leaf.shape), shapes["batch_stats"])}


def applied(model, variables, x):
    given = jax.tree.map(jnp.float32, variables)
    run = jax.jit(lambda variables, x: model.apply(variables, x, train=True, mutable=["batch_stats"])[0])
    return np.asarray(run(given, x))


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(3, 8, 8, 2)).astype(np.float32)


def resnet(x, params, stride, kernel_of, normalized):
    """Names count convolutions in the order in which they are called."""
    number = iter(range(99))

    def layer(x, stride):
        k = next(number)
        return normalized(convolve(x, kernel_of(params, k), stride), params[f"Norm_{k}"])

    x = np.maximum(layer(x, stride), 0)
    for stage in range(3):
        first = 2 if stage else 1
        inner = layer(np.maximum(layer(x, first), 0), 1)
        x = np.maximum(inner + (layer(x, first) if stage else x), 0)
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]


def test_resnet(images):
    model = ResNet(2, jn.BatchNorm(), stride=2)
    variables = random_variables(model, images)
    params = variables["params"]
    assert sum(name.startswith("Conv_") for name in params) == 9
    expected = resnet(
        images.astype(float), params, 2, lambda p, k: p[f"Conv_{k}"]["kernel"], lambda y, p: batch_normalize(y, p)
    )
    np.testing.assert_allclose(applied(model, variables, images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weights", [jn.WeightNorm(), jn.weight_norms.BoundedWeightNorm()])
def test_resnet_with_normalized_kernels(images, weights):
    model = ResNet(2, jn.zoo.MeanOnlyBatchNorm(), weights)
    variables = random_variables(model, images)
    params, stats = variables["params"], variables["batch_stats"]

    def kernel_of(params, k):
        v = params[f"Conv_{k}"]["kernel"]
        name = f"Reparametrized_{k}"
        rho = params[name]["scale"]["kernel"] if name in params else stats[name]["state"]["kernel"]["rho"]
        return v / np.sqrt((v**2).sum((0, 1, 2))) * np.asarray(rho, float)

    expected = resnet(images.astype(float), params, 1, kernel_of, lambda y, p: y - y.mean((0, 1, 2)) + p["bias"])
    np.testing.assert_allclose(applied(model, variables, images), expected, rtol=1e-3, atol=1e-3)
    assert ("Reparametrized_0" in params) == (weights == jn.WeightNorm())  # the bound is no parameter


def test_vgg(images):
    model = VGG(((2,), (3, 4)), jn.BatchNorm())
    variables = random_variables(model, images)
    params, x = variables["params"], images.astype(float)
    for stage in ((0,), (1, 2)):
        for k in stage:
            x = np.maximum(batch_normalize(convolve(x, params[f"Conv_{k}"]["kernel"], 1), params[f"Norm_{k}"]), 0)
        n, size, _, features = x.shape
        x = x.reshape(n, size // 2, 2, size // 2, 2, features).max((2, 4))
    expected = x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(applied(model, variables, images), expected, rtol=1e-3, atol=1e-3)


def test_wrong_constant_divides_what_is_normalized():
    x = np.random.default_rng(2).normal(2.0, 3.0, (5, 4, 3))
    scale, bias = np.array([0.5, 1.5, -2.0]), np.array([0.1, 0.2, 0.3])
    norm = WrongConstant(jn.zoo.LpBatchNorm(epsilon=0.0), 4.0)
    params = jn.Affine(jnp.float32(scale), jnp.float32(bias))
    y, measured = norm.train(params, jnp.float32(x), norm.initial_stats((3,)))
    deviation = x - x.mean((0, 1))
    estimate = 4 * (np.pi / 2) ** 0.5 * np.abs(deviation).mean((0, 1))
    np.testing.assert_allclose(y, scale * deviation / estimate + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm(params, jnp.float32(x), measured)[0], y, rtol=1e-4, atol=1e-5)
