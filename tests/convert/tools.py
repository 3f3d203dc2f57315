"""What the tests of all converters share: random weights, and the largest difference."""

import jax
import jax.numpy as jnp
import numpy as np

STEPS, BATCH, FEATURES, HIDDEN = 4, 2, 3, 5


def random_like(tree, rng):
    """Random numbers in every array of a tree."""
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), a.dtype), tree)


def random_params(spec, rng, inputs=FEATURES):
    """Random weights of a cell, no bias zero."""
    return random_like(jax.eval_shape(lambda key: spec.init(key, inputs), jax.random.key(0)), rng)


def random_inputs(rng, steps=STEPS):
    return rng.standard_normal((steps, BATCH, FEATURES)).astype(np.float32)


def agree(got, expected, tolerance=2e-6):
    """Equal to float32 rounding, relative to the largest number."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    difference = float(np.max(np.abs(got - expected), initial=0.0)) / max(1.0, float(np.max(np.abs(expected))))
    assert difference < tolerance, difference
    return difference


def same(tree, other):
    """Equal in structure, dtype and every bit."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
