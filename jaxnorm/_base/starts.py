"""Initial values: checks initializers and numbers, and fills arrays with them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects
from jaxnorm._base.typing import Array, DTypeLike, Float, Initializer


def filled(init: float | Initializer, key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Float[Array, "..."]:
    """Draws from an initializer, or fills an array with a number."""
    return init(key, shape, dtype) if callable(init) else jnp.full(shape, init, dtype)


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
