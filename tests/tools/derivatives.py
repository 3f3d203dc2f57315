"""A derivative written by hand beside that of the same function operation by operation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def agree(ours, reference, arguments, rng):
    """Values, and derivatives in both modes, of first and second order."""
    np.testing.assert_allclose(ours(*arguments), reference(*arguments), rtol=1e-12)
    along = [jnp.asarray(rng.standard_normal(a.shape)) for a in arguments]
    everything = tuple(range(len(arguments)))

    def total(function):
        weights = jnp.cos(jnp.arange(ours(*arguments).size)).reshape(ours(*arguments).shape)
        return lambda *args: jnp.sum(weights * jnp.square(function(*args)))

    def both(function):
        slope = jax.grad(total(function), everything)
        return (
            jax.jvp(function, arguments, along)[1],
            slope(*arguments),
            jax.jvp(slope, arguments, along)[1],
            jax.grad(lambda *args: sum(jnp.vdot(a, d) for a, d in zip(slope(*args), along, strict=True)), everything)(
                *arguments
            ),
        )

    chex.assert_trees_all_close(both(ours), both(reference), rtol=1e-8, atol=1e-10)
