"""What is peculiar to instance normalization: positions, a single one of them, feature axes anywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jaxnorm as jn
from tests.norms import oracles


def test_axes_against_the_equation_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 3, 4, 5)) * 3 + 1
    masks = [None, rng.random(x.shape) < 0.7, rng.random((2, 3, 1, 1)) < 0.7]
    choices = [
        {},
        {"feature_axis": 1},
        {"feature_axis": 1, "axis": (3,)},
        {"axis": (2, 1), "epsilon": 0.5},
        {"feature_axis": 0, "axis": (2, 3)},
    ]
    params = [[rng.standard_normal(x.shape[c.get("feature_axis", -1)]) for _ in range(2)] for c in choices]

    @jax.jit
    def run(x, params, masks):
        both = zip(choices, params, strict=True)
        return [[jn.instance_norm(x, *p, where=where, **choice) for where in masks] for choice, p in both]

    for choice, p, ys in zip(choices, params, run(x, params, masks), strict=True):
        for where, y in zip(masks, ys, strict=True):
            want = oracles.instance_norm(x, *p, where=where, **choice)
            np.testing.assert_allclose(y, want, rtol=1e-11, atol=1e-11, err_msg=str(choice))


def test_a_single_position_gives_bias(rng):
    # Paper notes: height times width of one has no spread.
    x = jnp.asarray(rng.standard_normal((2, 1, 1, 3)), jnp.float32)
    scale, bias = jnp.asarray(rng.standard_normal((2, 3)), jnp.float32)
    for epsilon in (1e-5, 0.0):

        def total(x, epsilon=epsilon):
            y = jn.instance_norm(x, scale, bias, epsilon=epsilon)
            return jnp.sum(jnp.sin(y)), y

        gradient, y = jax.grad(total, has_aux=True)(x)
        np.testing.assert_array_equal(y, np.broadcast_to(bias, y.shape))
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(("shape", "feature_axis"), [((5, 3), -1), ((2, 3, 4), (1, 2))])
def test_data_without_positions_have_a_single_one(shape, feature_axis, rng):
    """As in Flax, in value; masked elements are zero, and nothing is NaN."""
    x, scale, bias = (jnp.asarray(rng.standard_normal(s) * 1e3, jnp.float32) for s in (shape, shape[1:], shape[1:]))
    where = jnp.asarray(rng.random(shape) < 0.7).at[0].set(True)
    theirs = linen.InstanceNorm(feature_axes=feature_axis, epsilon=1e-5)
    expected = theirs.apply({"params": {"scale": scale, "bias": bias}}, x)
    for epsilon in (1e-5, 0.0):
        norm = jn.InstanceNorm(feature_axis=feature_axis, epsilon=epsilon)
        params = norm.init(shape[1:])._replace(scale=scale, bias=bias)

        def total(x, where=None, norm=norm, params=params):
            y, _ = norm(params, x, where=where)
            return jnp.sum(jnp.sin(y)), y

        gradient, y = jax.grad(total, has_aux=True)(x)
        np.testing.assert_allclose(y, expected, atol=1e-3)  # theirs rounds
        np.testing.assert_array_equal(y, np.broadcast_to(bias, shape))
        np.testing.assert_array_equal(gradient, 0.0)
        gradient, y = jax.grad(total, has_aux=True)(jnp.where(where, x, jnp.nan), where)
        np.testing.assert_array_equal(y, np.where(where, bias, 0.0))
        np.testing.assert_array_equal(gradient, 0.0)


def test_positions_spread_over_a_named_axis_alone(rng):
    """Each member of the axis has one position."""
    x = rng.standard_normal((4, 2, 3)).astype(np.float32)
    got = jax.vmap(lambda x: jn.instance_norm(x, axis_name="pieces"), axis_name="pieces")(x)
    np.testing.assert_allclose(got.swapaxes(0, 1), oracles.instance_norm(x.swapaxes(0, 1)), atol=2e-5)


def test_positions_spread_over_a_named_axis(rng):
    x = rng.standard_normal((2, 4, 3)).astype(np.float32)

    def member(x):
        return jn.instance_norm(x, axis=1, axis_name="pieces")

    spread = jax.vmap(member, in_axes=1, out_axes=1, axis_name="pieces")
    got = jax.jit(spread)(x.reshape(2, 2, 2, 3)).reshape(x.shape)
    np.testing.assert_allclose(got, oracles.instance_norm(x), atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ((2, 3, 4), {"feature_axis": 0}, r"feature_axis=0 names the first axis of x with shape \(2, 3, 4\)"),
        ((2, 3, 4, 5), {"feature_axis": (2, -4)}, r"feature_axis=\(2, -4\) names the first .* pass axis: height and"),
        ((4,), {}, r"feature_axis=-1 names the first axis of x with shape \(4,\)"),
        ((2, 3, 4), {"axis": (1, 2)}, r"instance_norm: axis=\(1, 2\) of x .* and not feature_axis=-1"),
        ((2, 3, 4), {"axis": 5}, r"instance_norm: axis=5 is out of range"),
    ],
)
def test_errors_name_the_argument(shape, fields, message):
    with pytest.raises(ValueError, match=message):
        jn.instance_norm(jnp.ones(shape), **fields)


def test_it_never_fits_into_a_cell():
    with pytest.raises(ValueError, match=r"LSTM: InstanceNorm\(.* one step has no positions .* Use LayerNorm"):
        jn.InstanceNorm().check_site("LSTM")
