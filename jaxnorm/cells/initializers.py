"""Initial values of kernels: plain functions ``(key, shape, dtype)``, so that specs stay hashable and picklable.

Any ``jax.nn.initializers`` callable works in their place.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array, DTypeLike, Float, Initializer, PRNGKeyArray, Shaped


def lecun_normal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Truncated normal with variance 1/I for a matrix (I, H); drawn in float32, then cast."""
    return jax.nn.initializers.lecun_normal()(key, tuple(shape), jnp.float32).astype(dtype)


def orthogonal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """A matrix (I, H) with orthonormal rows or columns (whichever are fewer); drawn in float32, then cast."""
    rows, columns = shape

    # Several at once are factorized one after the other: on CPUs the batched factorization of jaxlib before 0.11.2 waits
    # for threads of the pool that it runs on itself, and two of them in one program can wait for ever.
    @jax.custom_batching.sequential_vmap
    def draw(key: Array) -> Array:
        return jax.nn.initializers.orthogonal()(key, (rows, columns), jnp.float32)

    return draw(key).astype(dtype)


def eye(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """The identity matrix (I, H), with zeros beyond the shorter side."""
    rows, columns = shape
    return jnp.eye(rows, columns, dtype=dtype)


def blocks(
    where: str,
    name: str,
    init: Initializer | tuple[Initializer, ...],
    key: Array,
    shape: tuple[int, int],
    gates: int,
    dtype: DTypeLike,
) -> Float[Array, "I G H"]:
    """One draw for each gate, stacked to (I, G, H); ``init`` is one initializer for all gates, or a tuple of them."""
    keys = jax.random.split(key, gates)
    if not isinstance(init, tuple):
        return jax.vmap(lambda k: init(k, shape, dtype), out_axes=1)(keys)
    if len(init) != gates:
        raise ValueError(
            f"{where}: {name} has {len(init)} initializers, expected one, or one for each of the {gates} gates."
        )
    return jnp.stack([one(k, shape, dtype) for one, k in zip(init, keys, strict=True)], axis=1)
