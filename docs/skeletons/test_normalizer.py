"""A skeleton to copy to ``tests/zoo/norms/<family>/test_<name>.py``: only what is peculiar to the item.

Dtypes, masks, gradients, invariances, hashing and the rest are the contract of all normalizers; the row in
``tests/cases.py`` brings them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from normalizer import AbsNorm, abs_norm  # in the project: import jaxnorm as jn

import jaxnorm as jn


def oracle(spec, params, x, where=None):
    """The paper's equation, in NumPy and float64; the row in ``tests/cases.py`` names it as its ``oracle``."""
    scale, bias = params
    real = np.broadcast_to(True if where is None else where, x.shape)
    number = np.maximum(real.sum(axis=-1, keepdims=True), 1)
    mean = np.abs(np.where(real, x, 0.0)).sum(axis=-1, keepdims=True) / number
    y = np.where(real, x, 0.0) / (mean + spec.epsilon)
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return np.where(real, y, 0.0)


def test_abs_norm_is_the_equation_of_the_paper():
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((2, 3, 5)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    y = abs_norm(jnp.asarray(x), jnp.asarray(scale), epsilon=0.3)
    want = scale * x / (np.abs(x).mean(axis=-1, keepdims=True) + 0.3)
    np.testing.assert_allclose(y, want, rtol=1e-6)


def test_spec_applies_its_scale():
    norm = AbsNorm(scale_init=3.0, epsilon=0.0)
    y, stats = norm(norm.init((2,)), jnp.array([[0.0, 2.0]]))
    assert stats == ()
    assert y.tolist() == [[0.0, 6.0]]


def test_spec_stands_at_a_site():
    cell = jn.Elman(3, norm=AbsNorm())
    outputs = jn.unroll(cell, cell.init(jax.random.key(0), 2), jnp.ones((4, 2))).outputs
    assert outputs.shape == (4, 3)
