"""The equations of the normalized cells once the products are normalized; every JAX library's cell calls these."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

SCALE_OF_BN = 0.1
"""What the scales of the BN-LSTM start with."""


def lstm_step(
    gates: jax.Array, c: jax.Array, normalize_cell: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The new c and h from the pre-activations (B, 4H) in the order i f g o."""
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(normalize_cell(c))


def split_gates(products: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The 2H pre-activations of r and z, which share statistics, and the H of the candidate."""
    hidden = products.shape[-1] // 3
    return products[..., : 2 * hidden], products[..., 2 * hidden :]


def gru_step(inputs: tuple[jax.Array, jax.Array], recurrents: tuple[jax.Array, jax.Array], h: jax.Array) -> jax.Array:
    """The new h from the normalized pre-activations, each as (r and z, candidate)."""
    r, z = jnp.split(jax.nn.sigmoid(inputs[0] + recurrents[0]), 2, axis=-1)
    n = jnp.tanh(inputs[1] + r * recurrents[1])
    return h + z * (n - h)
