"""Carries whose features are spread over a mesh with explicit axes: a loop carries one type from step to step."""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Cell
from jaxnorm.engine.records import LoopInputs


def spread_features(cell: Cell, inputs: LoopInputs) -> LoopInputs:
    """Spreads the hidden features of both carries as those of the weights are spread."""
    types = [jax.typeof(leaf).sharding for leaf in jax.tree.leaves(inputs.weights)]
    found = next((each for each in types if len(each.spec) and each.spec[-1] is not None), None)
    if found is None:
        return inputs

    def spread(entry: Array) -> Array:
        if entry.ndim == 0 or entry.shape[-1] != cell.hidden_features:
            return entry
        spec = PartitionSpec(*jax.typeof(entry).sharding.spec[:-1], found.spec[-1])  # type: ignore[no-untyped-call]
        moved: Array = jax.reshard(entry, NamedSharding(found.mesh, spec))  # type: ignore[no-untyped-call]
        return moved

    carries: Any = jax.tree.map(spread, (inputs.carry, inputs.initial))
    return inputs._replace(carry=carries[0], initial=carries[1])
