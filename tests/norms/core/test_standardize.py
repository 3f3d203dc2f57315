"""What the normalizers of one core have in common: what a gradient keeps, large data, data that lie far from zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.norms.core import standardize
from tests.tools.derivatives import agree
from tests.tools.marks import mostly_heavy

AFFINE = {
    "layer_norm": jn.layer_norm,
    "layer_norm over two axes": lambda x, s, b, **mask: jn.layer_norm(x, s[None], b[None], axis=(1, 2), **mask),
    "layer_norm over examples": lambda x, s, b, **mask: jn.layer_norm(x, s[None, None], b[None, None], axis=0, **mask),
    "rms_norm": jn.rms_norm,
    "partial rms_norm": partial(jn.rms_norm, fraction=0.5),
    "batch_norm": lambda *args, **mask: jn.batch_norm(*args, **mask)[0],
    "batch_norm and moments": lambda *args, **mask: both(*jn.batch_norm(*args, **mask)),
    "group_norm": partial(jn.group_norm, num_groups=2),
    "group_norm of features": partial(jn.group_norm, num_groups=2, axis=-1),
    "group_norm, features first": lambda x, s, b, **mask: jn.group_norm(
        x, s[:3], b[:3], num_groups=3, feature_axis=1, **mask
    ),
    "instance_norm": jn.instance_norm,
}
"""Of data (B, P, F); scale and bias (F,)."""

EXACT = [name for name in AFFINE if not any(word in name for word in ("rms", "moments"))]
"""What subtracts a mean, and returns nothing but normalized data."""


def both(y, moments):
    """A function of the normalized data and of the moments."""
    return y + (jnp.sin(moments.mean) * moments.var)[None, None]


def norm_of(name, rng, features, dtype=jnp.float32):
    """The normalizer as a function of x, scale and bias, and the last two."""
    return AFFINE[name], *(jnp.asarray(rng.standard_normal(features), dtype) for _ in range(2))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "norm",
    [
        jn.layer_norm,
        jn.rms_norm,
        jn.batch_norm,
        partial(jn.group_norm, num_groups=4),
        partial(jn.group_norm, num_groups=4, axis=-1),
        jn.instance_norm,
    ],
    ids=["layer", "rms", "batch", "group", "group of features", "instance"],
)
def test_a_gradient_keeps_the_data_and_nothing_else_of_their_size(norm, masked, rng):
    x, scale, bias = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((6, 5, 16), 16, 16))
    where = jnp.asarray(rng.random((6, 5, 1)) < 0.7) if masked else None
    _, pull_back = jax.vjp(lambda *args: norm(*args, where=where), x, scale, bias)
    kept = [leaf for leaf in jax.tree.leaves(pull_back) if jnp.size(leaf) > x.size // 4]
    assert len(kept) == 1, "x, beside statistics, the scale and the mask"
    np.testing.assert_array_equal(kept[0].reshape(x.shape), x)


def everything(norm, x, scale, bias, along):
    """Values, both modes, a second derivative, and the norm of each example under vmap."""

    def loss(x, scale, bias):
        return jnp.sum(norm(x, scale, bias) * jnp.cos(x))

    @jax.jit
    def run(x, scale, bias, along):
        change = jax.jvp(norm, (x, scale, bias), (along, 2 * bias, scale))
        gradients = jax.grad(loss, (0, 1, 2))
        curvature = jax.jvp(lambda x: gradients(x, scale, bias), (x,), (along,))[1]
        mapped = jax.vmap(lambda x: norm(x, scale, bias))(jnp.stack([x, along]))
        return *change, gradients(x, scale, bias), curvature, mapped

    return jax.tree.leaves(run(x, scale, bias, along))


@pytest.mark.parametrize("name", AFFINE)
def test_large_data_have_the_same_derivatives(name, monkeypatch, rng, x64):
    norm, scale, bias = norm_of(name, rng, 6, jnp.float64)
    x, along = rng.standard_normal((2, 4, 3, 6)) + 3.0
    small = everything(norm, x, scale, bias, along)
    monkeypatch.setattr(standardize, "LARGE", 1)
    for got, want in zip(everything(norm, x, scale, bias, along), small, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("masked", mostly_heavy([True, False]), ids=["masked", "whole"])
@pytest.mark.parametrize("name", AFFINE)
def test_derivatives_are_those_of_each_operation(name, masked, rng, x64):
    norm, *affine = norm_of(name, rng, 6, jnp.float64)
    if masked:
        norm = partial(norm, where=jnp.asarray(rng.random((4, 3, 6)) < 0.7))

    def by_operations(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(standardize, "_standardize", standardize._standardize.fun)
            return norm(*args)

    agree(norm, by_operations, [jnp.asarray(rng.standard_normal((4, 3, 6)) + 2.0), *affine], rng)


@pytest.mark.parametrize("features", [6, 100])
@pytest.mark.parametrize("name", EXACT)
def test_equal_data_become_the_bias(name, features, rng):
    norm, scale, bias = norm_of(name, rng, features)
    want = AFFINE[name](jnp.zeros((5, 3, features)), scale, bias)
    for value in (0.1, 1e6, 3e10):
        np.testing.assert_array_equal(norm(jnp.full((5, 3, features), value), scale, bias), want)


@pytest.mark.parametrize("name", EXACT)
def test_data_far_from_zero_keep_their_digits(name, rng):
    norm, scale, bias = norm_of(name, rng, 12)
    x = rng.standard_normal((5, 3, 12)).astype(np.float32)
    x[1, 2, 3] = 500.0  # an outlier
    far = x + np.float32(4096.0)
    with jax.enable_x64(True):
        want = norm(*(jnp.asarray(part, jnp.float64) for part in (far, scale, bias)))
    np.testing.assert_allclose(norm(jnp.asarray(far), scale, bias), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in AFFINE if "features first" not in name])
@pytest.mark.parametrize("shape", [(0, 3, 6), (2, 0, 6)], ids=str)
def test_nothing_is_normalized_to_nothing(name, shape, rng):
    norm, *affine = norm_of(name, rng, 6)
    y, pull_back = jax.vjp(norm, jnp.zeros(shape), *affine)
    assert y.shape == shape
    for gradient, like in zip(pull_back(y), (y, *affine), strict=True):
        np.testing.assert_array_equal(gradient, jnp.zeros_like(like))


def test_what_large_data_were_normalized_to_is_computed_again():
    def barriers(rows, platform):
        lowered = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(jn.rms_norm(x))))).trace(jnp.ones((rows, 64)))
        return lowered.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier")

    large = standardize.LARGE // 64
    assert [barriers(large, "cpu"), barriers(large, "tpu"), barriers(64, "cpu")] == [2, 1, 0]
