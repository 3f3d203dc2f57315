"""Lengths, masks and resets from the host: arrays of NumPy fit the annotations, which the suite checks, and count."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx

T, B, D, H = 3, 2, 3, 4
KEY = jax.random.key(0)
LENGTHS = np.array([3, 1])
WHERE = np.arange(T)[:, None] < LENGTHS
RESET = np.array([[False, False], [True, False], [False, False]])


def test_in_functions(rng):
    cell, xs = jn.gru(H), jnp.asarray(rng.standard_normal((T, B, D)), jnp.float32)
    params = cell.init(KEY, D)
    masked = jn.unroll(cell, params, xs, where=jnp.asarray(WHERE), reset=jnp.asarray(RESET)).outputs
    np.testing.assert_array_equal(jn.unroll(cell, params, xs, where=WHERE, reset=RESET).outputs, masked)
    np.testing.assert_array_equal(jn.unroll(cell, params, xs, lengths=LENGTHS, reset=RESET).outputs, masked)
    _, y = jn.step(cell, params, None, xs[0], where=WHERE[2], reset=RESET[1])
    assert np.any(y[0])
    assert not np.any(y[1])


def test_in_modules_of_flax(rng):
    xs = jnp.asarray(rng.standard_normal((B, T, D)), jnp.float32)
    linen, own = jl.RNN(jn.gru(H)), jx.RNN(jn.gru(H), D, rngs=nnx.Rngs(0))
    variables = linen.init(KEY, xs)
    call = {"mask": WHERE.T, "reset": RESET.T}
    by_lengths = {"seq_lengths": LENGTHS, "reset": RESET.T}
    for run in (lambda **options: linen.apply(variables, xs, **options), lambda **options: own(xs, **options)):
        np.testing.assert_array_equal(run(**call), run(**by_lengths))
        assert not np.any(run(**call)[1, 1:])
    assert run(seq_lengths=LENGTHS, reverse=True).shape == (B, T, H)
