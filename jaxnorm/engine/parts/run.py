"""Runs a cell on the parts of a batch that lie on different devices, so that gradients are summed over devices once.

The gradient of a weight is a sum over examples. If these are spread over devices, the compiler sums over the devices
wherever a sum over examples stands: once a chunk, inside the loop. So we give each part of the batch a loop of its own,
side by side under ``jax.vmap``, with a sum of its own. The transpose of passing the weights to all parts adds the parts
after the loop, once a call.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.typing import Array
from jaxnorm.cells.sites import CellNorms
from jaxnorm.engine.loops.differentiable import is_differentiable
from jaxnorm.engine.parts.cut import LoopCall, Parts, places
from jaxnorm.engine.records import LoopOutputs


def run_parts(
    run: Callable[[LoopCall], LoopOutputs], parts: Parts, call: LoopCall, *, own_derivative: bool
) -> LoopOutputs:
    """Calls ``run`` on each part of the batch and joins the results, without the moments.

    Args:
      run: the loop for a batch; its outputs have the layout of the inputs.
      parts: how to cut the batch.
      call: its arguments.
      own_derivative: whether ``run`` has a derivative of its own. JAX differentiates a loop without one after it has
        mapped it, and then adds up the parts in each step, unless each part has a copy of the weights.
    """
    lead, layout = parts.axis, parts.in_layout
    leaves, tree = jax.tree.flatten(call)

    def one(*leaves: Array) -> Any:
        outputs = run(jax.tree.unflatten(tree, leaves))
        return outputs.last, outputs.outputs, outputs.carries

    cut, axes = [], []
    for leaf, place in zip(leaves, places(parts, call), strict=True):
        copies = place.axis is None and place.shared and not own_derivative and is_differentiable(leaf)
        axes.append(0 if copies else place.axis)
        if copies:
            cut.append(_copy(leaf, parts, call.inputs.xs))
        else:
            cut.append(leaf if place.axis is None else _cut(leaf, place.axis, parts, call.inputs.xs))
    out_axes = (lead, lead if parts.sums else layout, lead + 1)
    results = jax.vmap(one, in_axes=axes, out_axes=out_axes)(*cut)
    last, ys, carries = (jax.tree.map(partial(_join, axis), tree) for tree, axis in zip(results, out_axes, strict=True))
    return LoopOutputs(last, ys, CellNorms(), CellNorms(), carries)


def _cut(leaf: Array, axis: int, parts: Parts, like: Array) -> Array:
    cut = leaf.reshape(*leaf.shape[:axis], parts.number, leaf.shape[axis] // parts.number, *leaf.shape[axis + 1 :])
    if parts.spread is None:
        return cut
    # Masks that were drawn for the whole batch lie on every device.
    spec: Any = list(jax.typeof(cut).sharding.spec)
    spec[axis] = parts.spread
    moved: Array = jax.reshard(cut, _sharding(like, spec))  # type: ignore[no-untyped-call]
    return moved


def _copy(leaf: Array, parts: Parts, like: Array) -> Array:
    sharding = None if parts.spread is None else _sharding(like, (parts.spread, *jax.typeof(leaf).sharding.spec))
    copies: Array = lax.broadcast(leaf, (parts.number,), out_sharding=sharding)
    return copies


def _sharding(like: Array, spec: Any) -> NamedSharding:
    return NamedSharding(jax.typeof(like).sharding.mesh, PartitionSpec(*spec))  # type: ignore[no-untyped-call]


def _join(axis: int, leaf: Array) -> Array:
    return leaf.reshape(*leaf.shape[:axis], leaf.shape[axis] * leaf.shape[axis + 1], *leaf.shape[axis + 2 :])
