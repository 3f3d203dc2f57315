"""The common parts of the optax transformations: the choice of weights, the count of updates, records of norms."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.paths import Path, variable_names
from jaxnorm._base.typing import Array, Int, PyTree
from jaxnorm._shared.kernel_axes import AxisRule, input_axes
from jaxnorm.norms.core.moments import align, statistics_dtype
from jaxnorm.optim.masks import Mask
from jaxnorm.weight_norms.base import unit_axes


class Units(NamedTuple):
    """The axes of one kernel: those that hold the inputs of a unit, and those that count the units."""

    inputs: tuple[int, ...]
    along: tuple[int, ...]

    def lay(self, lengths: Array, weights: Array) -> Array:
        """Reshapes one number per unit to broadcast against the weights, in their dtype."""
        return align(lengths, weights.ndim, self.along).astype(weights.dtype)


Change: TypeAlias = Callable[[Array, Array, Array, Units, Any], Array]
"""(count, update, weights, units, record) -> update, in at least float32."""


class StepState(NamedTuple):
    """The number of updates so far."""

    step: Int[Array, ""]


def transformation(
    caller: str, change: Change, mask: Mask, axis: AxisRule | None, norms: PyTree | None = None
) -> optax.GradientTransformationExtraArgs:
    """Makes a transformation that counts updates and changes those of the chosen weights, in at least float32."""
    records = None if norms is None else by_path(norms)

    def init(params: PyTree) -> StepState:
        chosen_units(caller, mask, axis, params)
        return StepState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: StepState, params: PyTree | None = None, **_: Any) -> tuple[PyTree, StepState]:
        if params is None:
            raise ValueError(
                f"{caller}: the change depends on the weights, but params is None. "
                "Pass them: optimizer.update(gradients, state, params)."
            )
        units = chosen_units(caller, mask, axis, params)
        if records is not None:
            check_norms(caller, records, units, by_path(params))

        def of_leaf(path: Any, update: Array, weights: Array) -> Array:
            own = variable_names(path)
            if own not in units:
                return update
            dtype = statistics_dtype(weights.dtype)
            record = None if records is None else records[own]
            changed = change(state.step, update.astype(dtype), weights.astype(dtype), units[own], record)
            return changed.astype(update.dtype)

        changed = jax.tree_util.tree_map_with_path(of_leaf, updates, params)
        return changed, StepState(optax.safe_increment(state.step))

    return optax.GradientTransformationExtraArgs(init, update)


def chosen_units(caller: str, mask: Mask, axis: AxisRule | None, params: PyTree) -> dict[Path, Units]:
    """Returns the axes of each kernel that the mask chooses and the axis rule does not exclude."""
    booleans = mask(params) if callable(mask) else mask
    chosen = by_path(jax.tree.map(lambda choice, part: jax.tree.map(lambda _: choice, part), booleans, params))
    # Include weights that another transformation masked: their names still count.
    names = [variable_names(path) for path, _ in _with_masked(params)]
    weights = by_path(params)
    paths = [path for path, choice in chosen.items() if choice]
    found = input_axes(caller, axis, weights, paths, names=names)
    return {path: Units(*unit_axes(caller, weights[path], inputs)) for path, inputs in found.items()}


def by_path(tree: PyTree) -> dict[Path, Any]:
    """Returns the leaves of a tree, keyed by path."""
    return {variable_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _with_masked(tree: PyTree) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, optax.MaskedNode))


def check_norms(
    caller: str, records: Mapping[Path, Any], units: Mapping[Path, Units], weights: Mapping[Path, Array]
) -> None:
    """Raises ValueError unless there are records for exactly the chosen weights, with one norm per unit."""
    got, expected = (", ".join(sorted(map("/".join, tree))) or "none" for tree in (records, units))
    if got != expected:
        raise ValueError(
            f"{caller}: norms must have the structure of the chosen weights, {expected}, got "
            f"{got}. Make them by record_norms with the same mask and axis, stacked along a first axis."
        )
    for path, recorded in records.items():
        shape = tuple(weights[path].shape[a] for a in units[path].along)
        hint = "Stack what record_norms returned along a first axis, and name the same axis."
        count = recorded.shape[0] if recorded.ndim else 0
        validate.shape(caller, "norms", recorded.shape, (max(count, 1), *shape), "(records, *units)", hint)


def record_at(recorded: Any, index: Array) -> Array:
    """Returns one record; beyond the end, the last one."""
    records = jnp.asarray(recorded)
    last = jnp.asarray(records.shape[0] - 1, index.dtype)
    record: Array = jax.lax.dynamic_index_in_dim(records, jnp.minimum(index, last), keepdims=False)
    return record
