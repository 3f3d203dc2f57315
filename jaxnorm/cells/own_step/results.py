"""Checks the function of a :class:`FunctionCell`, and what it returns, so that errors name it and not the loop."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.typing import Array

FORM = "(params, carry, x) that returns (carry, y)"


def check_function(caller: str, function: Any) -> None:
    """Raises TypeError unless ``function`` can be called with three arguments and be hashed."""
    if isinstance(function, type) or not callable(function) or objects.is_spec(function):
        raise TypeError(
            f"{caller}: function must be a function {FORM}, got {objects.describe(function)}. Write one, such as "
            "def step(params, carry, x): ..."
        )
    if hasattr(function, "apply") and hasattr(function, "init"):
        raise TypeError(
            f"{caller}: function must be a function {FORM}, got {objects.describe(function)}. Write a function that "
            "calls module.apply(params, carry, x)."
        )
    try:
        hash(function)
    except TypeError:
        raise TypeError(
            f"{caller}: function must be hashable, so that its program is compiled once, got "
            f"{objects.describe(function)}. Write a plain function, and pass arrays in params."
        ) from None
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions in C have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"{caller}: function must be a function {FORM}, got one of {signature}. Its first argument is params, also "
            "if it has none."
        ) from None


def check_start(caller: str, carry: Any, batch_shape: tuple[int, ...]) -> Any:
    """Returns the carry before the first step as arrays; raises unless each begins with the axes of the batch."""

    def entry(path: Any, leaf: Any) -> Array:
        name = f"carry{jax.tree_util.keystr(path)}"
        array = _array(caller, name, leaf)
        if array.shape[: len(batch_shape)] != batch_shape:
            what = "jax.random.split(key, batch_shape)" if objects.is_key_dtype(array.dtype) else "jnp.broadcast_to"
            raise ValueError(
                f"{caller}: {name} must begin with the axes of the batch, {batch_shape}, got shape {array.shape}. Each "
                f"example has its own entry: write {what}."
            )
        return array if objects.is_key_dtype(array.dtype) else jnp.asarray(array, array.dtype)

    return jax.tree_util.tree_map_with_path(entry, carry)


def check_carry(caller: str, result: Any, old: Any, batch_shape: tuple[int, ...], out_features: int) -> tuple[Any, Any]:
    """Returns the new carry and the outputs as arrays; raises unless the carry is like the old one."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        have, want = _structures(result, old)
        alone = " It looks like the carry alone." * (have == want)
        got = "None" if result is None else objects.describe(result)
        raise TypeError(f"{caller}: function must return the pair (carry, y), got {got}.{alone} Write return carry, y.")
    new, y = result
    _check_structure(caller, new, old)

    def entry(path: Any, leaf: Any, like: Any) -> Array:
        name = f"carry{jax.tree_util.keystr(path)}"
        array = _array(caller, f"{name} that function returns", leaf)
        if getattr(array, "weak_type", False) and jnp.result_type(array, like.dtype) == like.dtype:
            array = array.astype(like.dtype)  # a number of Python takes the dtype it meets
        if array.dtype != like.dtype:
            raise TypeError(
                f"{caller}: function must return {name} in the dtype it got, {like.dtype}, got {array.dtype}. Cast it, "
                f"for example .astype({name}.dtype), or begin with {array.dtype} in carry_init."
            )
        if array.shape != like.shape:
            raise ValueError(
                f"{caller}: function must return {name} in the shape it got, {like.shape}, got {array.shape}. Begin "
                "with the shape that a step returns, or change what it returns."
            )
        return array

    def output(path: Any, leaf: Any) -> Array:
        name = f"y{jax.tree_util.keystr(path)}"
        array = _array(caller, f"{name} that function returns", leaf)
        if objects.is_key_dtype(array.dtype):
            raise TypeError(f"{caller}: {name} that function returns is a key. Return jax.random.key_data of it.")
        if array.shape[: len(batch_shape)] != batch_shape:
            raise ValueError(
                f"{caller}: {name} that function returns must begin with the axes of the batch, {batch_shape}, got "
                f"shape {array.shape}. Each example has its own output."
            )
        return array

    carry = jax.tree_util.tree_map_with_path(entry, new, old)
    outputs = jax.tree_util.tree_map_with_path(output, y)
    if out_features and getattr(outputs, "shape", ())[len(batch_shape) :][-1:] != (out_features,):
        got = f"shape {outputs.shape}" if isinstance(outputs, jax.Array) else objects.describe(outputs)
        raise ValueError(
            f"{caller}: y must be an array with {out_features} features in its last axis, since out_features says so, "
            f"got {got}. Leave out_features out, or correct it."
        )
    return carry, outputs


def _structures(*trees: Any) -> list[Any]:
    return [jax.tree.structure(tree) for tree in trees]


def _check_structure(caller: str, new: Any, old: Any) -> None:
    have, want = _structures(new, old)
    if have == want:
        return
    paths, expected = (
        {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)} for tree in (new, old)
    )
    said = [f"carry{path} is missing" for path in sorted(expected - paths)]
    said += [f"carry{path} is not expected" for path in sorted(paths - expected)]
    raise TypeError(
        f"{caller}: function must return a carry with the structure it got, {want}, got {have}"
        f"{': ' if said else ''}{', '.join(said[:3])}. Return the carry first, then y: return carry, y."
    )


def _array(caller: str, name: str, leaf: Any) -> Array:
    if not isinstance(leaf, bool | int | float | complex) and not (hasattr(leaf, "dtype") and hasattr(leaf, "shape")):
        raise TypeError(f"{caller}: {name} must be an array, got {objects.describe(leaf)}. Return arrays only.")
    return jnp.asarray(leaf)
