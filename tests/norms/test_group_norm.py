"""What is peculiar to group normalization: groups, feature axes anywhere, and its two neighbors as special cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def test_groups_and_axes_against_the_equations_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 6, 3, 4)) * 3 + 1
    masks = [None, rng.random(x.shape) < 0.7, rng.random((2, 1, 3, 1)) < 0.7, rng.random((2, 1, 1, 4)) < 0.7]
    choices = [
        {"num_groups": 2},
        {"num_groups": 2, "axis": -1},
        {"num_groups": 4, "axis": (3, 1)},
        {"num_groups": 3, "feature_axis": 1, "epsilon": 0.5},
        {"num_groups": 2, "feature_axis": 1, "axis": (1, 2)},
        {"num_groups": 2, "feature_axis": 0, "axis": (0, 3)},
    ]
    params = [[rng.standard_normal(x.shape[c.get("feature_axis", -1)]) for _ in range(2)] for c in choices]

    @jax.jit
    def run(x, params, masks):
        both = zip(choices, params, strict=True)
        return [[jn.group_norm(x, *p, where=where, **choice) for where in masks] for choice, p in both]

    for choice, p, ys in zip(choices, params, run(x, params, masks), strict=True):
        for where, y in zip(masks, ys, strict=True):
            want = oracles.group_norm(x, *p, where=where, **choice)
            np.testing.assert_allclose(y, want, rtol=1e-11, atol=1e-11, err_msg=str(choice))


def test_one_group_is_layer_norm_and_one_feature_a_group_is_instance_norm(rng):
    x = jnp.asarray(rng.standard_normal((2, 3, 4)), jnp.float32)
    scale, bias = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
    one = jn.group_norm(x, scale, bias, num_groups=1)
    np.testing.assert_allclose(one, jn.layer_norm(x, axis=(1, 2)) * scale[None, None] + bias[None, None], atol=1e-5)
    np.testing.assert_allclose(jn.group_norm(x, scale, bias, num_groups=4), jn.instance_norm(x, scale, bias), atol=1e-5)


def test_positions_spread_over_a_named_axis(rng):
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    mask = rng.random(x.shape) < 0.7

    def member(x, mask):
        return jn.group_norm(x, num_groups=2, axis=-1, where=mask, axis_name="positions")

    spread = jax.vmap(member, in_axes=1, out_axes=1, axis_name="positions")
    got = jax.jit(spread)(np.where(mask, x, np.nan), mask)
    np.testing.assert_allclose(got, oracles.group_norm(x, num_groups=2, where=mask), atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"num_groups": 3},
            r"group_norm: num_groups=3 must divide the number of features F = 8 \(axis -1 of x with shape",
        ),
        ({"num_groups": 2, "axis": 1}, r"group_norm: axis=1 must contain feature_axis=-1.* Add it to axis"),
        ({"num_groups": 2, "feature_axis": 3}, r"group_norm: feature_axis=3 is out of range for an array with 3 axes"),
        ({}, r"group_norm: num_groups=32 must divide"),
    ],
)
def test_errors_name_the_argument(fields, message):
    with pytest.raises(ValueError, match=message):
        jn.group_norm(jnp.ones((2, 3, 8)), **fields)


def test_only_the_last_axis_fits_into_a_cell():
    jn.GroupNorm(2, axis=-1).check_site("LSTM")
    with pytest.raises(ValueError, match=r"LSTM: GroupNorm\(num_groups=2\).* Use axis=-1"):
        jn.GroupNorm(2).check_site("LSTM")
