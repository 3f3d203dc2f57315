"""An example without a batch, features first, as inside of ``jax.vmap`` over a batch of PyTorch or Equinox."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4), (6,)])
@pytest.mark.parametrize("feature_axis", [0, "negative"])
def test_groups_of_one_example_reduce_all_of_it(shape, feature_axis, rng):
    feature_axis = -len(shape) if feature_axis == "negative" else feature_axis
    x = jnp.asarray(rng.standard_normal(shape) * 3 + 1, jnp.float32)
    scale, bias = jnp.asarray(rng.standard_normal((2, 6)), jnp.float32)
    got = jn.group_norm(x, scale, bias, num_groups=3, feature_axis=feature_axis)
    everything = tuple(range(len(shape)))
    expected = oracles.group_norm(x, scale, bias, num_groups=3, feature_axis=0, axis=everything)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_vmap_over_examples_is_a_batch(rng):
    x = jnp.asarray(rng.standard_normal((3, 6, 4, 2)), jnp.float32)
    alone = jn.GroupNorm(2, feature_axis=0)
    params = alone.init(alone.param_shape(x.shape[1:]))
    params = params._replace(scale=jnp.asarray(rng.standard_normal(6), jnp.float32))
    each = jax.vmap(lambda x: alone(params, x)[0])(x)
    together, _ = jn.GroupNorm(2, feature_axis=1)(params, x)
    np.testing.assert_allclose(each, together, atol=1e-6)
