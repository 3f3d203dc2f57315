"""Argument checks for public functions, with a common format for their messages.

Every message names the caller and the argument, says what it expected and what it got, and what to do. All checks use
static facts (shapes, dtypes, Python numbers), so they cost nothing in a compiled program.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnorm._base import objects
from jaxnorm._base.axis_slice import AxisSlice
from jaxnorm._base.typing import Axis


def is_array(caller: str, name: str, x: Any) -> None:
    """Raises TypeError unless ``x`` is an array."""
    if not isinstance(x, Array) and (line := objects.tensor_line(name, x)):
        raise TypeError(f"{caller}: {name} must be an array, got {objects.describe(x)}. Write {line}.")
    if not hasattr(x, "dtype") or not hasattr(x, "ndim"):
        line = "Convert it with jnp.asarray."
        if not isinstance(x, Array) and any(hasattr(leaf, "ndim") for leaf in jax.tree.leaves(x)):
            line = "It takes one array, no tree: put arrays side by side, jnp.concatenate((a, b), axis=-1)."
        raise TypeError(f"{caller}: {name} must be an array, got {objects.describe(x)}. {line}")


def real(caller: str, name: str, x: Array) -> Array:
    """Returns real data as floating-point numbers; raises TypeError unless ``x`` is a real array.

    Integers and booleans become float32, and 64-bit integers float64, as in ``jnp.mean``.
    """
    is_array(caller, name, x)
    if not isinstance(x, Array):
        x = jnp.asarray(x)  # an array of NumPy in double precision gets the dtype that JAX has for it
    if jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == jnp.bool_:
        return x.astype(jnp.float64 if x.dtype.itemsize == 8 else jnp.float32)
    floating(caller, name, x)
    return x


def floating(caller: str, name: str, x: Array) -> None:
    """Raises TypeError unless ``x`` is a real floating-point array."""
    is_array(caller, name, x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(
            f"{caller}: {name} must be real, got {x.dtype}. Put both parts side by side: "
            f"jnp.concatenate([{name}.real, {name}.imag], axis=-1)."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"{caller}: {name} must have a real floating-point dtype, got {x.dtype}. "
            f"Convert it, for example {name}.astype(jnp.float32)."
        )


def floating_dtype(caller: str, name: str, dtype: Any) -> None:
    """Raises TypeError unless ``dtype`` is a real floating-point dtype."""
    if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
        raise TypeError(f"{caller}: {name} must be a real floating-point dtype such as jnp.bfloat16, got {dtype!r}.")


MEANINGS = {"reset": ("where a sequence begins", "reset=done.astype(bool) if it holds zeros and ones")}
"""What True says in a boolean array, and the line to write for numbers; any other array is a mask."""


def boolean(caller: str, name: str, x: Array) -> None:
    """Raises TypeError unless ``x`` is a boolean array."""
    if not hasattr(x, "dtype") or x.dtype != jnp.bool_:
        meaning, line = MEANINGS.get(name, ("on real data", f"{name} != 0 if it holds zeros and ones"))
        got = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{caller}: {name} must be a boolean array, True {meaning}, got {got}. Write {line}.")


def array(caller: str, name: str, value: Any) -> Array:
    """Returns ``value`` as an array; accepts lists and NumPy arrays of numbers too."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"{caller}: {name} must be an array, got {objects.describe(value)}. Convert it with jnp.asarray."
        ) from None


def key(caller: str, name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a single key: a typed key, or a legacy key of two numbers."""
    if isinstance(value, Array | np.ndarray):
        typed = objects.is_key_dtype(value.dtype)
        if value.ndim == 0 if typed else value.ndim == 1 and value.dtype == jnp.uint32:
            return
    objects.refuse(caller, name, value, objects.KEY)


def start_value(caller: str, name: str, value: Any) -> Any:
    """Returns the initial value of a weight; raises TypeError for an initializer function."""
    if not callable(value) and not isinstance(value, str):
        return value
    raise TypeError(
        f"{caller}: {name} must be a number, got {objects.describe(value)}. Nothing is drawn "
        f"here: draw the weights after init, params._replace({name.removesuffix('_init')}=initializer(key, shape))."
    )


def sizes(caller: str, name: str, value: Any) -> tuple[Any, ...]:
    """Returns a shape as a tuple; raises TypeError unless all its entries are sizes (numbers or symbols)."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields") and all(map(_is_size, value)):
        return tuple(value)
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    line = f"({value},)" if whole else "xs.shape[1:-1]" if getattr(value, "ndim", 0) else "(64,), or () without a batch"
    got = value if isinstance(value, list | tuple) else objects.describe(value)
    raise TypeError(f"{caller}: {name} must be a tuple of sizes such as (64,), got {got}. Write {line}.")


def _is_size(value: Any) -> bool:
    if isinstance(value, int | np.integer):
        return not isinstance(value, bool) and int(value) >= 0
    from jax.export import is_symbolic_dim

    return bool(is_symbolic_dim(value))


def shape(caller: str, name: str, got: Sequence[int], expected: Sequence[int], symbols: str, hint: str) -> None:
    """Raises ValueError unless two shapes are equal."""
    if tuple(got) != tuple(expected):
        raise ValueError(f"{caller}: {name} must have shape {symbols} = {tuple(expected)}, got {tuple(got)}. {hint}")


def broadcastable(caller: str, name: str, got: Sequence[int], target: Sequence[int], hint: str = "") -> None:
    """Raises ValueError unless ``got`` broadcasts to ``target`` by NumPy's rule; ``hint`` says what to do instead."""
    padded = (1,) * (len(target) - len(got)) + tuple(got)
    if len(padded) != len(target) or any(g not in (1, t) for g, t in zip(padded, target, strict=True)):
        raise ValueError(
            f"{caller}: {name} must broadcast to the shape of x = {tuple(target)}, got {tuple(got)}. "
            + (hint or f"Add axes of size 1 where {name} does not vary, for example {name}[..., None].")
        )


def axes(caller: str, axis: Axis, ndim: int, name: str = "axis") -> tuple[int, ...]:
    """Returns the axes as sorted non-negative numbers; raises ValueError if an axis is out of range or named twice."""
    if isinstance(axis, slice | AxisSlice):
        return _sliced(caller, name, axis, ndim)
    given = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    if not all(isinstance(a, int | np.integer) and not isinstance(a, bool) for a in given):
        raise TypeError(f"{caller}: {name} must be an int or a tuple of ints, got {axis!r}. A slice works, too.")
    out_of_range = [a for a in given if not -ndim <= a < ndim]
    if out_of_range:
        raise ValueError(
            f"{caller}: {name}={axis} is out of range for an array with {ndim} axes. "
            f"Every axis must lie in [{-ndim}, {ndim - 1}]; it is a position, not a number of features."
        )
    positive = tuple(sorted(a % ndim for a in given))
    if len(set(positive)) != len(positive):
        raise ValueError(f"{caller}: {name}={axis} names the same axis twice. Name each axis once.")
    return positive


def _sliced(caller: str, name: str, axis: slice | AxisSlice, ndim: int) -> tuple[int, ...]:
    whole = hashable_slice(caller, name, axis) if isinstance(axis, slice) else axis
    found = tuple(sorted(whole.axes(ndim)))
    if not found:
        raise ValueError(f"{caller}: {name}={axis} has no axis of an array with {ndim} axes. Name at least one.")
    return found


def hashable_slice(caller: str, name: str, axis: slice) -> AxisSlice:
    """Returns a slice as a value that hashes; raises TypeError unless it is one of ints."""
    parts = (axis.start, axis.stop, axis.step)
    if axis.step == 0 or not all(part is None or type(part) is int for part in parts):
        raise TypeError(f"{caller}: {name} must be a slice of ints, got {axis!r}. Write slice(1, None), for example.")
    return AxisSlice(*parts)


def one_axis(caller: str, axis: int, ndim: int, name: str = "axis") -> int:
    """Returns a single axis as a non-negative number; raises TypeError for several."""
    if not isinstance(axis, int | np.integer) or isinstance(axis, bool):
        raise TypeError(f"{caller}: {name} must be an int, got {objects.shown(axis)}. Name a single axis.")
    (found,) = axes(caller, axis, ndim, name)
    return found


def positive_int(caller: str, name: str, value: Any) -> int:
    """Returns ``value`` as int; raises unless it is an integer of at least one."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{caller}: {name} must be an integer, got {objects.shown(value)}. Pass a whole number above zero."
        ) from None
    if isinstance(value, bool) or number < 1:
        raise ValueError(
            f"{caller}: {name} must be a positive integer, got {objects.shown(value)}. Pass a whole number above zero."
        )
    return number


def in_range(caller: str, name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError unless ``low <= value <= high`` (infinite ends are fine; NaN is rejected)."""
    if not (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high):
        raise ValueError(f"{caller}: {name} must be a number in [{low}, {high}], got {objects.shown(value)}.")


def positive(caller: str, name: str, value: float) -> None:
    """Raises ValueError unless the value is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{caller}: {name} must be a number above zero, got {objects.shown(value)}.")


def epsilon(caller: str, value: float) -> None:
    """Raises ValueError unless epsilon is a finite number of at least zero."""
    in_range(caller, "epsilon", value, 0.0, math.inf)
    if math.isinf(value):
        raise ValueError(f"{caller}: epsilon must be finite, got {objects.shown(value)}.")


def choice(caller: str, name: str, value: Any, options: Sequence[str | None]) -> None:
    """Raises ValueError unless ``value`` is one of the options."""
    if value not in options:
        raise ValueError(
            f"{caller}: {name} must be one of {', '.join(map(repr, options))}; got {objects.shown(value)}."
        )
