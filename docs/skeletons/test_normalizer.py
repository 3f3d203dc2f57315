"""A skeleton to copy to ``tests/norms/test_<name>.py``: only what is peculiar to the item.

Dtypes, masks, gradients, invariances, hashing and the rest are the contract of all normalizers; the row in
``tests/cases.py`` brings them.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from normalizer import ScaleNorm, scale_norm  # in the project: import jaxnorm as jn


def oracle(x, scale, epsilon):
    """The paper's equation, in NumPy and float64."""
    x = np.asarray(x, np.float64)
    return scale * x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + epsilon)


def test_scale_norm_is_the_equation_of_the_paper():
    x = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    y = scale_norm(jnp.asarray(x), jnp.asarray(1.7), epsilon=0.3)
    np.testing.assert_allclose(y, oracle(x, 1.7, 0.3), rtol=1e-6)


def test_spec_applies_its_scale():
    norm = ScaleNorm(scale_init=3.0, epsilon=0.0)
    y, stats = norm(norm.init(()), jnp.array([[0.0, 2.0]]))
    assert stats == ()
    assert y.tolist() == [[0.0, 3.0]]


def test_spec_refuses_sites():
    with pytest.raises(ValueError, match=r"LSTM: norm.cell: ScaleNorm.* cannot be used inside a cell"):
        ScaleNorm().check_site("LSTM: norm.cell")
