"""Chooses into how many parts a batch is cut: as many as devices may hold, if no example looks at another."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.interpreters import partial_eval

from jaxnorm._base.sizes import known
from jaxnorm.engine.arguments.sharding import batch_sharding, mesh_of, spread_by
from jaxnorm.engine.parts.cut import LoopCall, Parts, places
from jaxnorm.engine.parts.separate import separate
from jaxnorm.engine.records import LoopOutputs


def choose_parts(
    run: Callable[[LoopCall], LoopOutputs],
    call: LoopCall,
    weights_of: Callable[[tuple[Any, ...]], Any],
    batch_shape: tuple[int, ...],
    time: int,
    *,
    sums: bool = False,
) -> Parts | None:
    """Chooses as many parts as devices may hold; None where there is one device, or where examples see each other.

    On a mesh with explicit axes the type of the inputs says how they are spread. With automatic ones only the compiler
    knows. We then take the greatest number of parts that any spread of the first batch axis can have.

    Args:
      run: the loop; its results have time first.
      call: its arguments.
      weights_of: the shapes of the weights for a batch, from its sizes.
      batch_shape: sizes of the axes of the batch.
      time: the axis of time in the layout.
      sums: whether the loop returns sums over time in place of outputs.
    """
    xs = call.inputs.xs
    batch = batch_sharding(xs, time, xs.ndim - len(batch_shape) - 1)
    devices = spread_by(mesh_of(call), batch)
    cuts = [math.gcd(size, n) if known(size) else 1 for size, n in zip(batch_shape, devices, strict=True)]
    axis = next((k for k, count in enumerate(cuts) if count > 1), None)
    if axis is None:
        return None
    if batch[axis] is not None and xs.ndim > len(batch_shape) + 2:
        return None  # images: under vmap a convolution merges parts and channels, which an explicit axis cannot be
    one = (*batch_shape[:axis], batch_shape[axis] // cuts[axis], *batch_shape[axis + 1 :])
    parts = Parts(cuts[axis], axis, time, weights_of(one), batch[axis], sums)
    return parts if _separate(run, call, parts) else None


def _separate(run: Any, call: LoopCall, parts: Parts) -> bool:
    """Whether no example looks at another, and no moments are wanted, which are of the whole batch."""
    program, shapes = jax.make_jaxpr(run, return_shape=True)(call)
    if call.inputs.stats is None and jax.tree.leaves((shapes.input_moments, shapes.step_moments)):
        return False
    axes = LoopOutputs(parts.axis, parts.axis + (not parts.sums), None, None, parts.axis + 1)
    results = [axis for axis, tree in zip(axes, shapes, strict=True) for _ in jax.tree.leaves(tree)]
    wanted, used = partial_eval.dce_jaxpr(program.jaxpr, [axis is not None for axis in results])
    arguments = [place.axis for place, use in zip(places(parts, call), used, strict=True) if use]
    return separate(wanted, arguments, [axis for axis in results if axis is not None])
