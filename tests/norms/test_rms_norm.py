"""What is peculiar to RMS normalization: no centering, and the partial form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


def test_any_axes_and_fractions_against_the_equations_in_double_precision(rng, x64):
    x = rng.standard_normal((2, 3, 8)) * 3 + 1
    mask = rng.random(x.shape) < 0.7
    mask[0, 0, :4] = False  # Nothing real among the coordinates behind the statistic of one row.
    choices = [
        {"axis": -1, "fraction": 1.0, "epsilon": 1e-5},
        {"axis": -1, "fraction": 0.5, "epsilon": 1e-5},
        {"axis": 1, "fraction": 0.4, "epsilon": 0.5},
        {"axis": (2, 0), "fraction": 1.0, "epsilon": 1e-8},
        {"axis": (0, 1, 2), "fraction": 1.0, "epsilon": 0.0},
    ]
    shapes = [(8,), (8,), (3,), (2, 8), (2, 3, 8)]
    params = [[rng.standard_normal(shape) for _ in range(2)] for shape in shapes]

    @jax.jit
    def run(x, params, mask):
        both = zip(choices, params, strict=True)
        return [[jn.rms_norm(x, *p, where=where, **choice) for where in (None, mask)] for choice, p in both]

    for choice, p, ys in zip(choices, params, run(x, params, mask), strict=True):
        for where, y in zip((None, mask), ys, strict=True):
            np.testing.assert_allclose(y, oracles.rms_norm(x, *p, where=where, **choice), rtol=1e-11, atol=1e-11)


def test_a_mask_of_rows_with_a_fraction(rng):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    rows = np.array([[True], [False], [True]])
    got = jn.rms_norm(jnp.asarray(x), fraction=0.25, where=jnp.asarray(rows))
    np.testing.assert_allclose(got, oracles.rms_norm(x, fraction=0.25, where=rows), atol=2e-5)


def test_the_coordinates_behind_the_fraction_carry_no_gradient_of_the_statistic(rng):
    # y_j for j >= k depends on x_j only through the numerator: d y_j / d x_j = 1 / rms, and d y_i / d x_j = 0 else.
    x = rng.standard_normal(6).astype(np.float32)
    jacobian = np.asarray(jax.jit(jax.jacrev(lambda x: jn.rms_norm(x, fraction=0.5, epsilon=0.0)))(x))
    rms = np.sqrt((x[:3].astype(np.float64) ** 2).mean())
    np.testing.assert_allclose(jacobian[3:, 3:], np.eye(3) / rms, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(jacobian[:3, 3:], 0.0)
    assert np.abs(jacobian[3:, :3]).min() > 1e-4


def test_features_spread_over_a_named_axis(rng):
    x = rng.standard_normal((3, 8)).astype(np.float32)
    spread = jax.vmap(lambda x: jn.rms_norm(x, axis_name="f"), in_axes=1, out_axes=1, axis_name="f")
    got = jax.jit(spread)(x.reshape(3, 4, 2)).reshape(3, 8)
    np.testing.assert_allclose(got, oracles.rms_norm(x), atol=2e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fraction": 0.1}, r"rms_norm: fraction=0.1 of 8 features leaves no coordinate .* at least 0.125"),
        ({"fraction": 0.5, "axis": (0, 1)}, r"fraction=0.5 needs a single axis .* got the axes \(0, 1\)"),
        ({"fraction": 0.5, "axis_name": "f"}, r"fraction=0.5 needs a single axis .* axis_name='f'"),
        ({"fraction": 1.5}, r"rms_norm: fraction must be a number in \[0.0, 1.0\], got 1.5"),
        ({"fraction": 0.0}, r"rms_norm: fraction=0.0 of 8 features leaves no coordinate"),
    ],
)
def test_fractions_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        jn.rms_norm(jnp.ones((2, 8)), **fields)


def test_the_paper_has_no_bias():
    assert jn.RMSNorm().init((3,)).bias is None
    with pytest.raises(ValueError, match=r"GRU: RMSNorm\(axis=0.* cannot be used inside a cell"):
        jn.RMSNorm(0).check_site("GRU")
