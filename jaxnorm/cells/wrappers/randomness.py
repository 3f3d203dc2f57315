"""Keys and masks of cells: the same numbers in the loop, in its derivative, and for any chunk length."""

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, Bool
from jaxnorm.cells.base import Key

OWN, INNER = 0, 1


def key_pair(key: Key | None) -> tuple[Key | None, Key | None]:
    """Derives a key for a wrapper and one for its inner cell: every level of nesting has its own stream."""
    if key is None:
        return None, None
    key = to_threefry(key)
    return jax.random.fold_in(key, OWN), jax.random.fold_in(key, INNER)


def to_threefry(key: Key) -> Key:
    """Converts a key of any kind to the default, counter-based generator.

    The derivative draws the masks of many steps at once, under ``vmap``. Other generators (``rbg``) would then give
    other numbers than the loop, which draws step by step.
    """
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    wrapped: Key = jax.random.wrap_key_data(data[..., :2], impl="threefry2x32")
    return wrapped


def draw_mask(key: Key, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """Draws True with probability ``1 - rate``, independently; the same mask with and without double precision."""
    mask: Array = jax.random.bernoulli(key, jnp.float32(1.0 - rate), shape)
    return mask


def draw_factors(key: Key, rate: float, shape: tuple[int, ...]) -> Array:
    """Draws zero with probability ``rate``, else ``1 / (1 - rate)``: mean one, in JAX's widest enabled float dtype.

    With rate one all are zero.
    """
    scale = jnp.zeros(()) + (0.0 if rate == 1.0 else 1.0 / (1.0 - rate))
    return jax.lax.stop_gradient(jnp.where(draw_mask(key, rate, shape), scale, jnp.zeros(())))
