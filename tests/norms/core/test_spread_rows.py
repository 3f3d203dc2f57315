"""Rows spread over the devices of an explicit mesh: the digits of one device, one collective for each row."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxnorm as jn

pytestmark = pytest.mark.usefixtures("spread")

COLLECTIVE = re.compile(r" (?:all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def on_mesh(mesh=(4,)):
    names = ("data", "model")[-len(mesh) :]
    return jax.set_mesh(jax.make_mesh(mesh, names, axis_types=(AxisType.Explicit,) * len(mesh)))


def oracle(x, epsilon):
    x = np.float64(x)
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


@pytest.mark.parametrize("features", [4, 24])
@pytest.mark.parametrize("offset", [0.0, 4096.0, -1e6])
def test_digits_of_data_far_from_zero_stay(features, offset, rng):
    x = (rng.standard_normal((5, features)) + offset).astype(np.float32)
    with on_mesh():
        got = jax.jit(jn.layer_norm)(jax.device_put(x, P(None, "model")))
    want = oracle(x, 1e-5)
    np.testing.assert_allclose(got, want, atol=5e-7 * np.abs(want).max())


@pytest.mark.parametrize("features", [12, 388])
def test_equal_data_become_the_bias(features, rng):
    """Of many sizes: the sums of some are rounded."""
    x = np.repeat(np.float32(10 ** rng.uniform(-3, 10, (300, 1))), features, axis=1)
    with on_mesh():
        got = jn.layer_norm(jax.device_put(x, P(None, "model")), None, jnp.ones(features), epsilon=0.0)
    np.testing.assert_array_equal(got, 1.0)


def test_gradients_masks_and_two_axes_are_those_of_one_device(rng, x64):
    x, scale, bias, cotangent = (rng.standard_normal(s) for s in ((4, 3, 8), (3, 8), (3, 8), (4, 3, 8)))
    where = jnp.array([True, False, True, True])[:, None, None]

    def pull_back(x, scale, bias, cotangent):
        norm = lambda *args: jn.layer_norm(*args, axis=(-2, -1), where=where)  # noqa: E731
        y, back = jax.vjp(norm, x, scale, bias)
        return y, back(cotangent)

    want = pull_back(*map(jnp.asarray, (x, scale, bias, cotangent)))
    with on_mesh((2, 2)):
        rows, weights = P("data", None, "model"), P(None, "model")
        places = (rows, weights, weights, rows)
        given = [jax.device_put(each, place) for each, place in zip((x, scale, bias, cotangent), places, strict=True)]
        got = jax.jit(pull_back)(*given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), jax.device_get(got), want)


def test_one_collective_measures_mean_and_square():
    norm = jax.jit(jn.layer_norm)
    with on_mesh():
        x = jax.device_put(jnp.ones((5, 8)), P(None, "model"))
        assert len(COLLECTIVE.findall(norm.lower(x).compile().as_text())) == 1
        other = jax.device_put(jnp.ones((8, 5)), P("model", None))
        assert not COLLECTIVE.findall(norm.lower(other).compile().as_text()), "whole rows need none"


def test_elements_with_masks_of_their_own_are_measured_as_before(rng):
    x, where = jnp.asarray(rng.standard_normal((5, 8)), jnp.float32), jnp.asarray(rng.random((5, 8)) < 0.7)
    want = jn.layer_norm(x, where=where)
    with on_mesh():
        got = jn.layer_norm(jax.device_put(x, P(None, "model")), where=jax.device_put(where, P(None, "model")))
    np.testing.assert_allclose(got, want, atol=1e-6)
