"""Checks what the methods of a cell return and whether they are linear, so that errors name them and not the loop."""

from collections.abc import Callable
from typing import Any

import jax

from jaxnorm._base import objects
from jaxnorm.cells.base import Carry, Cell

NORMALIZED = "(x_proj, moments)"
STEPPED = "(carry, y, moments)"


def check_normalized(cell: Cell, result: Any) -> tuple[Any, Any]:
    """Returns what ``normalize_inputs`` returned; raises TypeError unless that is a pair."""
    _check_form(f"{type(cell).__name__}.normalize_inputs", NORMALIZED, result)
    x_proj, moments = result
    return x_proj, moments


def check_step(cell: Cell, result: Any, old: Carry) -> tuple[Carry, Any, Any]:
    """Returns what ``step`` returned; raises TypeError or ValueError unless its carry is like the one that it got."""
    caller = f"{type(cell).__name__}.step"
    _check_form(caller, STEPPED, result)
    new, y, moments = result
    have: Any = jax.tree.structure(new)
    want: Any = jax.tree.structure(old)
    if have != want:
        expected, found = (want, have) if type(new) is type(old) else (objects.describe(old), objects.describe(new))
        raise TypeError(
            f"{caller} must return a carry of the structure it got, {expected}, got {found}. Return {STEPPED}, with "
            "carry._replace(...) of the carry that it got."
        )
    for (path, leaf), like in zip(jax.tree_util.tree_leaves_with_path(new), jax.tree.leaves(old), strict=True):
        name, got = f"carry{jax.tree_util.keystr(path)}", jax.typeof(leaf)  # a number of Python has a type, too
        if got.shape != like.shape:
            raise ValueError(
                f"{caller} must return {name} in the shape it got, {like.shape}, got {got.shape}. The cell's "
                "initial_carry, or carry_features, says with which shape it begins."
            )
        if got.dtype != like.dtype:
            raise TypeError(
                f"{caller} must return {name} in the dtype it got, {like.dtype}, got {got.dtype}. Cast it: "
                f".astype({name}.dtype)."
            )
    return new, y, moments


def _check_form(caller: str, form: str, result: Any) -> None:
    size = form.count(",") + 1
    if type(result) not in (tuple, list) or len(result) != size:
        hint = "The moments of a cell without normalizers are CellNorms()."
        raise TypeError(f"{caller} must return {form}, got {objects.describe(result)}. {hint}")


def transpose_state(cell: Cell, product: Callable[[Carry], Any], like: Carry, cotangent: Any) -> Carry:
    """Applies the transpose of ``project_state``; raises TypeError if it has none, because it is not linear."""
    try:
        (result,) = jax.linear_transpose(product, like)(cotangent)
    except (AssertionError, RuntimeError) as error:  # what JAX raises for a product of two, and for other functions
        raise TypeError(
            f"{type(cell).__name__}.project_state must be linear in the carry, since the backward pass transposes it, "
            f"but it has no transpose ({type(error).__name__}). Move what is not linear into step."
        ) from error
    return result
