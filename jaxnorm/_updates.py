"""What the optax transformations share: which weights they change, the count of updates, and records of lengths."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxnorm import _validate
from jaxnorm._typing import Array, Axis, Int, PyTree
from jaxnorm.norms.moments import align, statistics_dtype
from jaxnorm.weights.base import unit_axes

Mask: TypeAlias = PyTree | Callable[[PyTree], PyTree]
"""Booleans in the structure of the weights or of a part of it from the root, or a function of the weights to that."""

Change: TypeAlias = Callable[[Array, Array, Array, Any], Array]
"""(count, update, weights, records) -> update, in at least float32."""


class StepState(NamedTuple):
    """The number of updates so far."""

    step: Int[Array, ""]


def named(*names: str) -> Callable[[PyTree], PyTree]:
    """A mask of all weights whose own name, the last one on the way to them, is one of those given.

    Args:
      *names: names of fields, dictionary entries or attributes.

    Returns:
      A function of weights to booleans. Boxes around a weight (``nnx.Param``, ``nn.Partitioned``) do not count.

    Raises:
      ValueError: by the function, when there is no weight of such a name.

    Example:
      >>> import jaxnorm.optim
      >>> jaxnorm.optim.named("kernel")({"dense": {"kernel": 1.0, "bias": 0.0}})
      {'dense': {'bias': False, 'kernel': True}}
    """

    def mask(params: PyTree) -> PyTree:
        def chosen(path: Any, _: Any) -> bool:
            own = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
            return bool(own) and (own[-1] in names or (own[-1] == "value" and own[-2:-1] != [] and own[-2] in names))

        found = jax.tree_util.tree_map_with_path(chosen, params)
        if not any(jax.tree.leaves(found)):
            raise ValueError(
                f"jaxnorm.optim.named: no weight is named {' or '.join(map(repr, names))}. "
                "Give other names, or a mask of your own: booleans in the structure of the weights."
            )
        return found

    return mask


kernels = named("kernel", "recurrent")
"""The mask that is used where none is given: the kernels of all cells of this library and of Flax's layers."""


def transformation(
    where: str, change: Change, mask: Mask, norms: PyTree | None = None, axis: Axis | None = None
) -> optax.GradientTransformationExtraArgs:
    """Counts updates and changes those of the chosen weights, in at least float32."""

    def init(params: PyTree) -> StepState:
        return StepState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: StepState, params: PyTree | None = None, **_: Any) -> tuple[PyTree, StepState]:
        if params is None:
            raise ValueError(
                f"{where}: the change depends on the weights, but params is None. "
                "Pass them: optimizer.update(gradients, state, params)."
            )
        if norms is not None:
            check_norms(where, norms, params, axis)

        def of_leaf(update: Array, weights: Array, more: Any = None) -> Array:
            dtype = statistics_dtype(weights.dtype)
            return change(state.step, update.astype(dtype), weights.astype(dtype), more).astype(update.dtype)

        changed = jax.tree.map(of_leaf, updates, params, *(() if norms is None else (norms,)))
        return changed, StepState(optax.safe_increment(state.step))

    return optax.masked(optax.GradientTransformationExtraArgs(init, update), mask)


def check_norms(where: str, norms: PyTree, params: PyTree, axis: Axis | None) -> None:
    """Raises ValueError unless the records have the structure of the chosen weights, and a length for each unit."""
    got, expected = (str(jax.tree.structure(tree)) for tree in (norms, params))
    if got != expected:
        raise ValueError(
            f"{where}: norms must have the structure of the chosen weights, {expected}, got "
            f"{got}. Make them by record_norms with the same mask, stacked along a first axis."
        )
    for recorded, weights in zip(jax.tree.leaves(norms), jax.tree.leaves(params), strict=True):
        shape = tuple(weights.shape[a] for a in unit_axes(where, weights, axis)[1])
        hint = "Stack what record_norms returned along a first axis, and name the same axis."
        records = recorded.shape[0] if recorded.ndim else 0
        _validate.shape(where, "norms", recorded.shape, (max(records, 1), *shape), "(records, *units)", hint)


def record_at(recorded: Any, index: Array) -> Array:
    """One record; the last one beyond the end."""
    records = jnp.asarray(recorded)
    last = jnp.asarray(records.shape[0] - 1, index.dtype)
    record: Array = jax.lax.dynamic_index_in_dim(records, jnp.minimum(index, last), keepdims=False)
    return record


def along_units(lengths: Array, weights: Array, axis: Axis | None) -> Array:
    """One number for each unit, broadcasting against the weights, in their dtype."""
    _, units = unit_axes("jaxnorm.optim", weights, axis)
    return align(lengths, weights.ndim, units).astype(weights.dtype)
