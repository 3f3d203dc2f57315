"""Runs a cell on the parts of a batch that lie on different devices, so that gradients are summed over devices once.

The gradient of a weight is a sum over examples. If these are spread over devices, the compiler sums over the devices
wherever a sum over examples stands: once a chunk, inside the loop. So we give each part of the batch a loop of its own,
side by side under ``jax.vmap``, with a sum of its own. The transpose of passing the weights to all parts adds the parts
after the loop, once a call.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
from jax import lax
from jax.interpreters import partial_eval
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.sizes import known
from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Weights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.engine.arguments.sharding import mesh_of, spread_by
from jaxnorm.engine.loops.differentiable import is_differentiable
from jaxnorm.engine.records import LoopInputs, LoopOutputs, PerStep

Run = Callable[[LoopInputs, PerStep], LoopOutputs]


class Parts(NamedTuple):
    """How to cut a batch."""

    number: int
    axis: int
    """The batch axis to cut, among those of the batch."""
    time: int
    """The axis of time in the layout of inputs and outputs."""
    spread: Any = None
    """The explicit axes of the mesh that spread the parts, if there are any."""

    @property
    def in_layout(self) -> int:
        """The axis to cut in the layout of inputs and outputs."""
        return self.axis + (self.axis >= self.time)

    def batch_shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the batch axes of one part."""
        return (*whole[: self.axis], whole[self.axis] // self.number, *whole[self.axis + 1 :])


def choose_parts(
    run: Run, inputs: LoopInputs, per_step: PerStep, batch_shape: tuple[int, ...], time: int, batch: tuple[Any, ...]
) -> Parts | None:
    """Chooses as many parts as devices may hold; None where there is one device, or where examples see each other.

    On a mesh with explicit axes the type of the inputs says how they are spread. With automatic ones only the compiler
    knows. We then take the greatest number of parts that any spread of the first batch axis can have.

    Args:
      run: the call, to look for random numbers and for statistics of the batch in it.
      inputs: the inputs of the call.
      per_step: its inputs of each step.
      batch_shape: sizes of the axes of the batch.
      time: the axis of time in the layout.
      batch: the mesh axis of each batch axis, from ``batch_sharding``.
    """
    devices = spread_by(mesh_of((inputs, per_step)), batch)
    cuts = [math.gcd(size, n) if known(size) else 1 for size, n in zip(batch_shape, devices, strict=True)]
    axis = next((k for k, count in enumerate(cuts) if count > 1), None)
    if axis is None or _sees_batch(run, inputs, per_step):
        return None
    if batch[axis] is not None and inputs.xs.ndim > len(batch_shape) + 2:
        return None  # images: under vmap a convolution merges parts and channels, which an explicit axis cannot be
    return Parts(cuts[axis], axis, time, batch[axis])


def _sees_batch(run: Run, inputs: LoopInputs, per_step: PerStep) -> bool:
    """Whether a step measures the batch, or draws random numbers, whose places depend on the shape of the batch."""
    program, shapes = jax.make_jaxpr(run, return_shape=True)(inputs, per_step)
    if inputs.stats is None and jax.tree.leaves((shapes.input_moments, shapes.step_moments)):
        return True
    if per_step.key is None:
        return False
    _, used = partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars))
    _, of_steps = jax.tree.unflatten(jax.tree.structure((inputs, per_step)), used)
    return bool(of_steps.key)


def run_parts(
    run: Run, parts: Parts, part_weights: Weights, inputs: LoopInputs, per_step: PerStep, *, own_derivative: bool
) -> LoopOutputs:
    """Calls ``run`` on each part of the batch and joins the results, without the moments.

    Args:
      run: the call for a batch; its outputs have the layout of the inputs.
      parts: how to cut the batch.
      part_weights: shapes of the weights for the batch of one part: masks of a sequence have an entry for each example.
      inputs: the inputs of the call.
      per_step: its inputs of each step.
      own_derivative: whether ``run`` has a derivative of its own. JAX differentiates a loop without one after it has
        mapped it, and then adds up the parts in each step, unless each part has a copy of the weights.
    """
    lead, layout = parts.axis, parts.in_layout
    size = inputs.xs.shape[layout]

    def of_steps(leaf: Array) -> int | None:
        return lead + 1 if leaf.ndim > lead + 1 and leaf.shape[lead + 1] == size else None

    def of_weights(leaf: Array, part: Any) -> int | None:
        differ = [k for k, (a, b) in enumerate(zip(leaf.shape, part.shape, strict=True)) if a != b]
        return differ[0] if differ else None

    leaves, tree = jax.tree.flatten((inputs, per_step))
    axes = jax.tree.leaves(
        (
            LoopInputs(
                jax.tree.map(lambda *each: _Axis(of_weights(*each), shared=True), inputs.weights, part_weights),
                jax.tree.map(lambda _: _Axis(lead), inputs.carry),
                jax.tree.map(lambda _: _Axis(lead), inputs.initial),
                cast(Any, _Axis(layout)),
                jax.tree.map(lambda _: _Axis(None, shared=True), inputs.stats),
            ),
            jax.tree.map(lambda leaf: _Axis(of_steps(leaf)), per_step._replace(key=None))._replace(
                key=jax.tree.map(lambda _: _Axis(None), per_step.key)
            ),
        )
    )

    def one(*leaves: Array) -> Any:
        outputs = run(*jax.tree.unflatten(tree, leaves))
        return outputs.last, outputs.outputs, outputs.carries

    cut, places = [], []
    for leaf, axis in zip(leaves, axes, strict=True):
        copies = axis.number is None and axis.shared and not own_derivative and is_differentiable(leaf)
        places.append(0 if copies else axis.number)
        if copies:
            cut.append(_copy(leaf, parts, inputs.xs))
        else:
            cut.append(leaf if axis.number is None else _cut(leaf, axis.number, parts, inputs.xs))
    out_axes = (lead, layout, lead + 1)
    results = jax.vmap(one, in_axes=places, out_axes=out_axes)(*cut)
    last, ys, carries = (jax.tree.map(partial(_join, axis), tree) for tree, axis in zip(results, out_axes, strict=True))
    return LoopOutputs(last, ys, CellNorms(), CellNorms(), carries)


class _Axis:
    """The axis of a leaf that has an entry for each example, or None; ``shared``: all parts have the same weights."""

    def __init__(self, number: int | None, *, shared: bool = False) -> None:
        self.number, self.shared = number, shared


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
    return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])
