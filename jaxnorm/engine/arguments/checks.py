"""Checks the arguments of the engine: arrays by their shapes, trees against those that the cell would make."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects, validate
from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import carry_template, check_carry


def check_inputs(caller: str, name: str, xs: Any, feature_axes: int = 1, *, any_dtype: bool = False) -> None:
    """Raises unless ``xs`` is a real array with at least the axes time and features."""
    (validate.is_array if any_dtype else validate.real)(caller, name, xs)
    if xs.ndim <= feature_axes:
        number = "two axes, time and features (T, *B, I)"
        if feature_axes != 1:
            number = f"{1 + feature_axes} axes, time, batch and the {feature_axes} axes of features"
        raise ValueError(
            f"{caller}: {name} must have at least {number}, got shape {xs.shape}. A single step is {name}[None]."
        )


def check_step_inputs(caller: str, name: str, x: Any, cell: Cell, call: str) -> None:
    """Raises unless ``x`` is a real array with at least the axes of features; ``call`` shows the order of arguments."""
    axes = hooks(cell).feature_axes
    if isinstance(x, tuple | list | Mapping):
        raise TypeError(
            f"{caller}: {name} must be an array, got {objects.describe(x)}. The carry comes before the input: write "
            f"{call}. The input is one array, no tree."
        )
    (validate.real if hooks(cell).fixes_params else validate.is_array)(caller, name, x)
    if x.ndim < axes:
        raise ValueError(
            f"{caller}: {name} must have at least {axes} axes, its features, got shape {x.shape}. A sequence of steps "
            "is for unroll."
        )


def layout_shape(xs: Array, feature_axes: int) -> tuple[int, ...]:
    """Returns the shape of the inputs without their features: steps and examples, in the order of the caller."""
    return xs.shape[: xs.ndim - feature_axes]


def check_lengths(caller: str, name: str, lengths: Any, batch_shape: tuple[int, ...]) -> Array | None:
    """Returns lengths as an array; raises unless it holds one integer per example."""
    if lengths is None:
        return None
    array: Array = validate.array(caller, name, lengths)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{caller}: {name} must be integers, got {array.dtype}. Convert with .astype(int).")
    validate.shape(caller, name, array.shape, batch_shape, "(*B)", "One length for each example.")
    return array


def check_mask(caller: str, name: str, mask: Any, layout: tuple[int, ...], symbols: str) -> Array | None:
    """Returns a mask as an array; raises unless it holds a boolean for each step of each example."""
    if mask is None:
        return None
    array: Array = validate.array(caller, name, mask)
    validate.boolean(caller, name, array)
    validate.shape(caller, name, array.shape, layout, symbols, "It says one thing for each step.")
    return array


def check_steps(
    caller: str,
    cell: Cell,
    inputs: Array,
    time_axis: int,
    options: Mapping[str, Any],
    carry_name: str = "initial_carry",
) -> None:
    """Checks the call of a Flax module first, so that errors name Flax's arguments rather than the engine's.

    ``options`` holds the arguments ``mask``, ``reset``, ``seq_lengths`` and ``initial_carry`` of the call.
    """
    axes = hooks(cell).feature_axes
    layout = layout_shape(inputs, axes)
    batch_shape = layout[:time_axis] + layout[time_axis + 1 :]
    for name in ("mask", "reset"):
        check_mask(caller, name, options[name], layout, f"inputs.shape[:-{axes}]")
    check_lengths(caller, "seq_lengths", options["seq_lengths"], batch_shape)
    if (carry := options["initial_carry"]) is not None:
        check_carry(caller, carry_name, carry, carry_template(cell, batch_shape))


def check_arrays(caller: str, name: str, tree: Any) -> None:
    """Raises TypeError unless every leaf of a tree is an array or a number."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not isinstance(leaf, Array | int | float) and objects.tensor_line(name, leaf):
            validate.is_array(caller, name + jax.tree_util.keystr(path), leaf)
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float):
            raise TypeError(
                f"{caller}: {name}{jax.tree_util.keystr(path)} must be an array, got {objects.describe(leaf)}. "
                f"{'Do the arguments come in their order?' if not path else 'Pass the arrays themselves.'}"
            )


def check_params(cell: Cell, params: Any, caller: str = "unroll", name: str = "params") -> None:
    """Raises unless the weights have the type and shapes that ``cell.init`` would give, if the cell fixes them."""
    if not hooks(cell).fixes_params:
        return
    size = _in_features(cell, params)
    expected = jax.eval_shape(lambda key: cell.init(key, size), jax.eval_shape(jax.random.key, 0))
    if type(params) is not type(expected):
        made = type(expected).__name__
        raise TypeError(
            f"{caller}: {name} must be {made} for {type(cell).__name__}, got {objects.describe(params)}. "
            f"{objects.restore(params, name, made, 'cell.init(key, in_features)')}"
        )
    same_shapes(caller, name, params, expected, optional=".carry", leading=0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.iscomplexobj(leaf):
            raise TypeError(
                f"{caller}: {name}{jax.tree_util.keystr(path)} must be real, got {leaf.dtype}. A cell computes with "
                "real numbers; write a complex step with jaxnorm.FunctionCell."
            )


def _in_features(cell: Cell, params: Any) -> int:
    """Returns the number of inputs that the weights are made for, or 1 if they do not say."""
    try:
        size = hooks(cell).in_features(params)
    except (AttributeError, IndexError, TypeError):  # not the weights of this cell: the comparison explains it
        size = 0
    return size or 1


def check_stats(cell: Cell, stats: Any, caller: str = "unroll") -> None:
    """Raises unless statistics have the structure of ``cell.initial_stats()``; the number of rows is free."""
    expected: Any = jax.eval_shape(cell.initial_stats)
    if type(stats) is not type(expected) and jax.tree.leaves(stats):
        made = type(expected).__name__
        raise TypeError(
            f"{caller}: stats must be the {made} of {type(cell).__name__}, got {objects.describe(stats)}. "
            f"{objects.restore(stats, 'stats', made, 'cell.initial_stats()')}"
        )
    same_shapes(caller, "stats", stats, expected, optional=None, leading=1)


def same_shapes(caller: str, name: str, got: Any, expected: Any, *, optional: str | None, leading: int) -> None:
    """Compares two trees leaf by leaf, except ``leading`` axes and leaves below the ``optional`` path."""
    have, want = _shapes(got), _shapes(expected)
    for path in sorted(have.keys() ^ want.keys()):
        if optional is None or not path.startswith(optional):
            wrong = "is missing" if path in want else "is not expected"
            raise TypeError(f"{caller}: {name}{path} {wrong}. Do {name} come from the same spec?")
    for path in sorted(have.keys() & want.keys()):
        if have[path][leading:] != want[path][leading:]:
            rows, shape = "(rows, ...) " * leading, want[path][leading:]
            hint = f"Do {name} come from the same spec?"
            if len(shape) == 1 and math.prod(have[path][leading:]) == shape[0]:
                hint = f"Vectors are flat, gate after gate: reshape({'rows, ' * leading}-1)."
            raise ValueError(
                f"{caller}: {name}{path} must have shape {rows}{shape} as the spec makes it, got {have[path]}. {hint}"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
