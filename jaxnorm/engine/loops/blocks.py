"""Runs a cell over a long sequence block by block, and keeps nothing of the outputs but sums over time.

A block is many chunks. The forward pass keeps the carry before each block; the backward pass runs one block after the
other again, from the last to the first, with carries and outputs of that block alone. In a block a function reads the
outputs of some steps at a time; what it makes of them lives as long as these steps are at work.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.sizes import known
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry
from jaxnorm.engine.loops.chunks import scan_chunks
from jaxnorm.engine.loops.differentiable import narrowed, widened
from jaxnorm.engine.records import Chunk, ChunkPlan, LoopInputs, LoopOutputs, PerStep


class BlockPlan(NamedTuple):
    """How to run over blocks."""

    chunks: ChunkPlan
    """The chunks inside of a block, and the time axis of xs and targets."""
    length: int
    """The number of steps in a block."""
    run: Callable[[LoopInputs, PerStep], LoopOutputs]
    """Runs the cell over a block, time first."""
    read: Callable[[PyTree, PyTree, PyTree, Array | None], PyTree]
    """Sums over some steps what the function makes of their outputs: ``read(head, outputs, targets, where)``."""
    read_length: int
    """The number of steps that it reads at a time."""


def block_length(steps: int, chunk: int) -> int:
    r"""Chooses the number of steps in a block: as many blocks as a block has steps, :math:`\sqrt T`, in whole chunks.

    The carries before the blocks then take as much memory as those of the steps of one block. We prefer a length that
    divides the number of steps, since the loop body then compiles once. Unknown ``steps`` (symbolic) are one block.
    """
    if not known(steps):
        return steps
    most = max(1, round(math.sqrt(steps) / chunk))
    near = sorted(range(max(most // 2, 1), 2 * most + 1), key=lambda chunks: abs(chunks - most))
    return next((chunks * chunk for chunks in near if steps % (chunks * chunk) == 0), most * chunk)


def sum_blocks(
    plan: BlockPlan, inputs: LoopInputs, steps: PerStep, head: PyTree, targets: PyTree, sums: PyTree
) -> tuple[LoopOutputs, PyTree]:
    """Runs over all blocks.

    Args:
      plan: the lengths, the loop over a block and the function.
      inputs: the inputs of the whole sequence.
      steps: the inputs of each step.
      head: what the function reads with.
      targets: what it compares the outputs with, laid out like xs.
      sums: zeros, one for each sum.

    Returns:
      The last carry and all moments, without outputs; and the sums.
    """
    axis, reverse = plan.chunks.axis, plan.chunks.reverse
    shared = (inputs.weights, inputs.initial, inputs.stats)
    # What all blocks share collects its gradient in these dtypes, block by block.
    wide, wide_head = widened(shared), widened(head)

    def read(sums: PyTree, part: Chunk) -> tuple[PyTree, Chunk]:
        outputs, targets = part.in_layout
        read = plan.read(narrowed(wide_head, head), outputs, targets, part.time_major)
        return jax.tree.map(jnp.add, sums, read), Chunk((), (), ())

    def block(state: tuple[Carry, PyTree], part: Chunk) -> tuple[tuple[Carry, PyTree], Chunk]:
        carry, sums = state
        xs, targets = part.in_layout
        weights, initial, stats = narrowed(wide, shared)
        out = plan.run(LoopInputs(weights, carry, initial, xs, stats), part.time_major)
        of_block, _ = scan_chunks(
            plan.chunks._replace(length=plan.read_length, axis=0, again=True),
            read,
            jax.tree.map(jnp.zeros_like, sums),
            Chunk((out.outputs, targets), part.time_major.where, ()),
            (),
            reverse=False,
        )
        sums = jax.tree.map(jnp.add, sums, of_block)
        return (out.last, sums), Chunk((), (out.input_moments, out.step_moments), ())

    several = plan.length != inputs.xs.shape[axis]  # a single block has nothing to run again
    (last, sums), results = scan_chunks(
        plan.chunks._replace(length=plan.length, again=several),
        block,
        (inputs.carry, sums),
        Chunk((inputs.xs, targets), steps, ()),
        (),
        reverse=reverse,
    )
    return LoopOutputs(last, (), *results.time_major), sums
