"""Initial values: checks initializers and numbers, and fills arrays with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer

_BOXES = ("Partitioned", "LogicallyPartitioned", "VariableMetadata")
"""What the initializers of ``with_partitioning`` and ``with_logical_partitioning`` of Flax return."""
_MESH_AXES = (
    "Names of mesh axes go to the module: jaxnorm.linen.RNN(cell, partitioning={'kernel': (None, None, 'model')}), or "
    "jaxnorm.nnx.RNN(cell, in_features, kernel_metadata={'out_sharding': (None, None, 'model')}, rngs=rngs)."
)


def filled(
    init: float | Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike, place: str = "initial value"
) -> Float[Array, "..."]:
    """Draws from an initializer, or fills an array with a number; ``place`` names the argument in messages."""
    return checked_draw(init, key, shape, dtype, place) if callable(init) else jnp.full(shape, init, dtype)


def checked_draw(
    init: Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike, place: str
) -> Float[Array, "..."]:
    """Draws from an initializer; raises TypeError or ValueError unless that returns an array of the shape."""
    value: Any = init(key, shape, dtype)
    if not isinstance(value, jax.Array | np.ndarray):
        line = _MESH_AXES if type(value).__name__ in _BOXES else "Return jnp.asarray(...)."
        raise TypeError(f"{place} must return an array, got {objects.describe(value)}. {line}")
    if value.shape != tuple(shape):
        raise ValueError(f"{place} must return an array of the shape that it is given, {shape}, got {value.shape}.")
    return jnp.asarray(value)


def check_start(caller: str, name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a number or an initializer."""
    if callable(value) or isinstance(value, str):
        check_initializer(caller, name, value)
    elif isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(
            f"{caller}: {name} must be a number or an initializer, got {objects.describe(value)}. Write {name}=0.1, or "
            f"{name}=jax.nn.initializers.normal()."
        )


def check_initializer(caller: str, name: str, init: Any) -> None:
    """Raises TypeError unless ``init`` is an initializer; most functions in JAX return one only when called."""
    own = getattr(init, "__name__", "")
    makes_one = callable(init) and getattr(jax.nn.initializers, own, None) is init and own not in ("zeros", "ones")
    if makes_one or not callable(init):
        line = f"jax.nn.initializers.{own if makes_one else init if isinstance(init, str) else 'lecun_normal'}()"
        raise TypeError(
            f"{caller}: {name} must be an initializer, a function of key, shape and dtype, got "
            f"{objects.describe(init)}{', which makes one' * makes_one}. Write {line}."
        )
