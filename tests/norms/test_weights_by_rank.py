"""Scale and bias with trailing axes of size one, as Haiku and PyTorch have them for channels first: (F, 1, 1)."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn

CALLS = {
    "batch": lambda x, s, b: jn.batch_norm(x, s, b, feature_axis=1)[0],
    "group": lambda x, s, b: jn.group_norm(x, s, b, num_groups=2, feature_axis=1),
    "instance": lambda x, s, b: jn.instance_norm(x, s, b, feature_axis=1),
    "filter response": lambda x, s, b: jn.zoo.filter_response_norm(x, s, b, feature_axis=1),
    "given statistics": lambda x, s, b: jn.normalize(x, jn.Moments(s, s**2, jnp.ones(())), s, b, axis=(0, 2, 3)),
}


@pytest.mark.parametrize("name", CALLS)
def test_they_lie_along_the_channels(name, rng):
    x = jnp.asarray(rng.standard_normal((2, 4, 3, 3)), jnp.float32)
    scale, bias = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
    flat = CALLS[name](x, scale, bias)
    np.testing.assert_allclose(CALLS[name](x, scale[:, None, None], bias[:, None, None]), flat, rtol=1e-6)
    plain = np.asarray(CALLS[name](x, jnp.ones(4), jnp.zeros(4)), np.float64)
    if name != "given statistics":
        expected = plain * np.asarray(scale)[:, None, None] + np.asarray(bias)[:, None, None]
        np.testing.assert_allclose(flat, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 1), (4, 3, 1), (3, 1, 1), (2, 1)])
def test_others_are_refused(shape):
    """They vary along another axis, or are of another size."""
    with pytest.raises(ValueError, match=r"do not fit the 1 axes|must broadcast to the shape of x"):
        jn.instance_norm(jnp.ones((2, 4, 3, 3)), jnp.ones(shape), feature_axis=1)
