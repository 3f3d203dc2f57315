"""Checks of the trees that a caller hands to the engine, against what the cell itself would make."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm import _validate
from jaxnorm._typing import Array
from jaxnorm.cells.base import Cell, Timed


def check_params(cell: Cell, params: Any) -> None:
    """Raises unless the weights have the type and the shapes that ``cell.init`` gives."""
    size = params.kernel.shape[0] if hasattr(params, "kernel") else 1
    expected = jax.eval_shape(lambda key: cell.init(key, size), jax.eval_shape(jax.random.key, 0))
    if type(params) is not type(expected):
        raise TypeError(
            f"unroll: params must be {type(expected).__name__} for {type(cell).__name__}, got {type(params).__name__}. "
            "Make them with cell.init(key, in_features)."
        )
    _same_shapes("params", params, expected, optional=".carry", leading=0)


def check_stats(cell: Cell, stats: Any) -> None:
    """Raises unless statistics have the structure of ``cell.initial_stats()``; the number of rows is free."""
    _same_shapes("stats", stats, jax.eval_shape(cell.initial_stats), optional=None, leading=1)


def fit_carry(carry: Any, template: Any) -> Any:
    """Checks structure and shapes of a carry that was handed in, and casts it to the dtypes of the cell."""
    if isinstance(template, Timed) and not isinstance(carry, Timed):
        carry = Timed(carry, jnp.zeros(template.step.shape, jnp.int32))
    got: Any = jax.tree.structure(carry)
    expected: Any = jax.tree.structure(template)
    if got != expected:
        raise TypeError(
            f"unroll: carry must have the structure that cell.initial_carry(batch_shape) gives, {expected}, got {got}."
        )

    def fit(path: Any, entry: Any, like: Any) -> Array:
        name = "carry" + jax.tree_util.keystr(path)
        hint = "Does it come from a batch of another size?"
        _validate.shape("unroll", name, np.shape(entry), like.shape, "(*B, H)", hint)
        return jnp.asarray(entry).astype(like.dtype)

    return jax.tree_util.tree_map_with_path(fit, carry, template)


def _same_shapes(name: str, got: Any, expected: Any, *, optional: str | None, leading: int) -> None:
    """Compares two trees leaf by leaf, but for ``leading`` axes and for leaves below the ``optional`` path."""
    have, want = _shapes(got), _shapes(expected)
    for path in sorted(have.keys() ^ want.keys()):
        if optional is None or not path.startswith(optional):
            wrong = "is missing" if path in want else "is not expected"
            raise TypeError(f"unroll: {name}{path} {wrong}. Do {name} come from the same cell spec?")
    for path in sorted(have.keys() & want.keys()):
        if have[path][leading:] != want[path][leading:]:
            rows = "(rows, ...) " * leading
            raise ValueError(
                f"unroll: {name}{path} must have shape {rows}{want[path][leading:]} as the cell makes it, got "
                f"{have[path]}. Do {name} come from the same cell spec?"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
