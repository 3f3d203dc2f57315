"""What the tests of the relatives of LSTM and GRU share: running an equation step by step, and comparing with it."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

STEPS, BATCH, FEATURES, HIDDEN = 4, 3, cases.IN_FEATURES, 4


def check_equation(cell, step, rng, *, features=FEATURES, steps=STEPS, stats=None, **options):
    """Runs a cell with random numbers everywhere, and its equation: ``step(params, carry, x) -> (carry, output)``.

    The carry of the equation is a tuple of (B, H) arrays in the order of the cell's own.
    """
    params = cases.random_cell_params(cell, rng, features, dtype=jnp.float64)
    xs = jnp.asarray(rng.standard_normal((steps, BATCH, features)))
    start = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), cell.initial_carry((BATCH,)))
    got = jn.unroll(cell, params, xs, carry=start, stats=stats, **options)
    p, carry, outputs = oracles.to_numpy(params), tuple(np.asarray(entry) for entry in start), []
    for x in np.asarray(xs):
        carry, y = step(p, carry, x)
        outputs.append(y)
    np.testing.assert_allclose(got.outputs, np.stack(outputs), rtol=1e-10, atol=1e-12)
    for entry, expected in zip(got.carry, carry, strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-10, atol=1e-12)
    return got


def ln(v, affine):
    """Layer normalization over all gates of ``v`` together."""
    return oracles.layer_norm(v, *affine)


def features_of(gates, size=HIDDEN):
    """Where the features of some gates, or of one, lie in a flat vector."""
    return np.concatenate([np.arange(gate * size, (gate + 1) * size) for gate in np.atleast_1d(gates)])


def part(affine, features):
    """The weights of some features."""
    return type(affine)(*(leaf[features] for leaf in affine))


def bn(v, affine):
    """Batch normalization by the rows of ``v``."""
    return oracles.batch_norm(v, oracles.measure(v, np.ones(len(v), bool)), *affine)
