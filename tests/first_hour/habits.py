"""What the first hours share: what a user types by habit and the line that answers it, random weights, comparison."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tools.annotations import no_annotation_checks


def answered(call, *lines):
    """The call fails, and the message has the lines to write."""
    with no_annotation_checks(), pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        call()
    for line in lines:
        assert re.search(re.escape(line), str(caught.value)), str(caught.value)


def drawn(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def draw_like(tree, rng):
    """Random numbers in every floating array of a tree, positive ones where a variance may be."""
    return jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(np.shape(a)), a.dtype), tree)


def close(got, expected, tolerance=3e-6):
    """Equal to rounding, leaf by leaf, relative to the largest number."""
    ours, theirs = jax.tree.leaves(got), jax.tree.leaves(expected)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)))
