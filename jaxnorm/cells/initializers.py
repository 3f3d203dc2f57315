"""Initial values: ``(key, shape, dtype) -> array``, plain functions or frozen specs, so that cells stay hashable.

Any ``jax.nn.initializers`` callable works in their place.
"""

import dataclasses
from collections.abc import Sequence
from typing import final

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

    # Several at once are factorized one after the other: on CPUs the batched factorization of jaxlib before 0.11.2
    # waits for threads of the pool that it runs on itself, and two of them in one program can wait for ever.
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


def small_normal(
    key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "I H"]:
    """Normal with variance 2 / (5 I) for a matrix (I, H); drawn in float32, then cast."""
    return (jax.random.normal(key, tuple(shape), jnp.float32) * (2.0 / (5.0 * shape[0])) ** 0.5).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class Uniform:
    """Numbers drawn evenly from an interval, in float32, then cast.

    Attributes:
      low: the lower end.
      high: the upper end.

    Example:
      >>> import jax, jaxnorm
      >>> bool((abs(jaxnorm.initializers.Uniform(-0.5, 0.5)(jax.random.key(0), (8,))) <= 0.5).all())
      True
    """

    low: float
    high: float

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape."""
        return jax.random.uniform(key, tuple(shape), jnp.float32, self.low, self.high).astype(dtype)


@final
@dataclasses.dataclass(frozen=True)
class PowerLaw:
    r"""Forget biases that spread the memory of the units of a head from long to short; nothing is drawn.

    .. math:: b_k = 5 - 12 \Bigl(\frac{k}{d - 1}\Bigr)^{0.3 + 1.3 r}, \qquad k = 0, \dots, d - 1

    along the last axis of length d (5 where d is one). Published code of the xLSTM, for its sLSTM.

    Attributes:
      ratio: r, the depth of the block among the B blocks of a model, block / (B - 1): 0 the first, 1 the last.

    Example:
      >>> import jax, jaxnorm
      >>> jaxnorm.initializers.PowerLaw(0.5)(jax.random.key(0), (3,)).round(2).tolist()
      [5.0, -1.2100000381469727, -7.0]
    """

    ratio: float = 0.0

    def __call__(
        self, key: PRNGKeyArray | Shaped[Array, "2"], shape: Sequence[int], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "..."]:
        """An array of the given shape."""
        place = jnp.arange(shape[-1], dtype=jnp.float32) / max(shape[-1] - 1, 1)
        return jnp.broadcast_to(5.0 - 12.0 * place ** (0.3 + 1.3 * self.ratio), tuple(shape)).astype(dtype)


def filled(init: float | Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Float[Array, "..."]:
    """What an initializer draws, or an array full of a number."""
    return init(key, shape, dtype) if callable(init) else jnp.full(shape, init, dtype)


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
