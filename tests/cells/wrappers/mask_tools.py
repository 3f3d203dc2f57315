"""What the tests of the wrappers share: the keys that reach a cell, drawn apart from the code, and comparisons."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
from tests import cases
from tests.cells import oracles

STEPS, BATCH, HIDDEN, FEATURES = 4, 3, cases.HIDDEN, cases.IN_FEATURES


def step_keys(key, depth=0):
    """The key of a wrapper at each step, ``depth`` wrappers inside of the outermost one."""
    return [own_key(k, depth) for k in jax.random.split(jax.random.split(key, 3)[1], STEPS)]


def sequence_key(key, depth=0):
    """The key of a wrapper for the whole sequence."""
    return own_key(jax.random.split(key, 3)[2], depth)


def own_key(key, depth):
    for _ in range(depth):
        key = jax.random.fold_in(key, 1)
    return jax.random.fold_in(key, 0)


def drawn(key, rate, shape):
    """A mask as NumPy numbers: zero with probability ``rate``, else one."""
    return np.asarray(jax.random.bernoulli(key, np.float32(1.0 - rate), shape), np.float64)


def example(cell, rng, dtype=jnp.float64):
    """Random weights, inputs and carry."""
    params = cases.random_cell_params(cell, rng, dtype=dtype)
    carry = jax.eval_shape(lambda: cell.initial_carry((BATCH,), dtype=dtype))
    return params, cases.random_inputs(rng, STEPS, (BATCH,), dtype), cases.randomize(carry, rng)


def check(cell, key, rng, step):
    """Compares a run with a loop in NumPy: ``step(t, params, carry, x) -> (carry, output)``."""
    params, xs, carry = example(cell, rng)
    got = jn.unroll(cell, params, xs, carry=carry, key=key, chunk=3)
    state, weights = oracles.to_numpy(tuple(carry)), oracles.to_numpy(params)
    for t in range(STEPS):
        state, y = step(t, weights, state, np.asarray(xs[t]))
        np.testing.assert_allclose(got.outputs[t], y, rtol=1e-9, atol=1e-11)
    for entry, expected in zip(got.carry, state, strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-9, atol=1e-11)


def check_mean(samples, expected):
    """The mean over many draws (the first axis) is what is expected, within five standard errors."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert error.max() > 0, "nothing is random"
    np.testing.assert_array_less(np.abs(samples.mean(axis=0) - np.asarray(expected)), 5 * error + 1e-6)
