"""The normalizer that does nothing does nothing, but for masks."""

import jax.numpy as jnp
import numpy as np

import jaxnorm as jn


def test_input_and_output_are_one_array():
    x = jnp.array([1.0, jnp.nan])
    y, measured = jn.Identity()((), x)
    assert y is x
    assert measured == ()


def test_masked_elements_are_zero():
    y, _ = jn.Identity()((), jnp.array([[1.0, jnp.nan], [2.0, 3.0]]), None, jnp.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(y, [[1.0, 0.0], [2.0, 3.0]])


def test_it_has_no_weights_and_no_statistics_and_fits_everywhere():
    identity = jn.Identity()
    assert identity.init((3,)) == identity.initial_stats((3,)) == identity.param_shape((2, 3)) == ()
    identity.check_site("LSTM")
