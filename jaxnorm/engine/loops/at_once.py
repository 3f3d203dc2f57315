"""Runs a cell over all steps as a single chunk: the methods that have no chunks, and the shapes of what comes out."""

from typing import cast

from jaxnorm.cells.base import Cell, LinearCell
from jaxnorm.engine.loops.associative_scan import associative
from jaxnorm.engine.loops.scan import scan_steps
from jaxnorm.engine.records import CarryOutputs, Chunk, LoopInputs, LoopOutputs, PerStep


def run_at_once(
    cell: Cell, inputs: LoopInputs, steps: PerStep, *, method: str, reverse: bool, carries: bool = False
) -> LoopOutputs:
    """Runs over time-major steps, with the loop of the associative method or with that of a chunk.

    Args:
      cell: the cell.
      inputs: the inputs of the whole sequence, with time as the first axis of xs.
      steps: the inputs of each step.
      method: ``"associative"``, or any other for the loop of a chunk.
      reverse: whether to go from the last step to the first.
      carries: whether to return the carry after each step.
    """
    if method == "associative":
        return associative(cast(LinearCell, cell), inputs, steps, reverse=reverse, carries=carries)
    chunk, extra = Chunk(inputs.xs, steps, ()), CarryOutputs(after=carries, wide_sums=True)
    last, results = scan_steps(cell, inputs, inputs.carry, chunk, reverse=reverse, carries=extra)
    input_moments, step_moments, _, after = results.time_major
    return LoopOutputs(last, results.in_layout, input_moments, step_moments, after)
