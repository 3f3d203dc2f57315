"""Keys and masks for what is random in a cell: the same numbers in the loop, in its derivative, and in any chunks."""

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array, Bool
from jaxnorm.cells.base import Key

OWN, INNER = 0, 1


def key_pair(key: Key | None) -> tuple[Key | None, Key | None]:
    """A key for a wrapper itself and one for the cell in it: every level of nesting has its own stream."""
    if key is None:
        return None, None
    key = counted(key)
    return jax.random.fold_in(key, OWN), jax.random.fold_in(key, INNER)


def counted(key: Key) -> Key:
    """A key of the default, counter-based generator (threefry), from a key of any kind.

    The derivative draws the masks of many steps at once, under ``vmap``. With other generators (``rbg``) that gives
    other numbers than one step after the other.
    """
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    wrapped: Key = jax.random.wrap_key_data(data[..., :2], impl="threefry2x32")
    return wrapped


def keep(key: Key, rate: float, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    """True with probability ``1 - rate``, each element apart; the same with and without double precision."""
    mask: Array = jax.random.bernoulli(key, jnp.float32(1.0 - rate), shape)
    return mask


def inverted(key: Key, rate: float, shape: tuple[int, ...]) -> Array:
    """Zero with probability ``rate``, else ``1 / (1 - rate)``: of mean one. In the widest dtype there is."""
    scale = jnp.zeros(()) + 1.0 / (1.0 - rate)
    return jax.lax.stop_gradient(jnp.where(keep(key, rate, shape), scale, jnp.zeros(())))
