"""What a site asks of its normalizer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.cells.sites import SiteInput, normalize


def count_selects(cell):
    """The selects in the program of a gradient of padded sequences."""
    params, xs = cell.init(jax.random.key(0), 3), jnp.zeros((4, 2, 3))

    def loss(params):
        return jn.unroll(cell, params, xs, lengths=jnp.array([4, 2])).outputs.sum()

    return str(jax.make_jaxpr(jax.grad(loss))(params)).count("select_n")


@pytest.mark.parametrize("norm", [jn.LayerNorm(), jn.RMSNorm(), jn.LayerNorm(epsilon=1e-3, use_bias=False)], ids=str)
@pytest.mark.parametrize("kind", [jn.LSTM, jn.GRU])
def test_rows_of_padded_sequences_are_not_masked_again(kind, norm):
    """The loop selects carries and outputs. A select of each product besides takes as long as the product's norm."""
    assert count_selects(kind(5, norm=norm)) == count_selects(kind(5))


@pytest.mark.parametrize("norm", [jn.BatchNorm(), jn.LayerNorm(axis_name="devices")], ids=str)
def test_normalizers_that_see_other_rows_get_the_mask(norm, rng):
    x, where = rng.normal(size=(1, 2, 5)), jnp.array([[True, False]])

    def on_each(x, where):
        return normalize(norm, norm.init((5,)), x, SiteInput(where=where))[0]

    y = jax.vmap(on_each, axis_name="devices")(x, where)[0]
    np.testing.assert_array_equal(y[1], 0.0)
