"""The moments that the forward pass keeps for the backward pass, in place of measuring a second time.

To measure a batch that spans several devices takes two collectives. A normalizer with ``normalize_and_keep`` and
``normalize_again`` takes what the forward pass kept, and differentiates as if it had measured that itself: a
``jax.custom_jvp`` whose rule is that of the measurement ignores the tangents of what it was handed. On one device a
second pass over the data costs less than to keep the moments of each step.
"""

from typing import Any

from jaxnorm.cells.base import Cell
from jaxnorm.cells.sites import KEEP, CellNorms, combine_sites
from jaxnorm.engine.arguments.sharding import batch_sharding, mesh_of, spread_by
from jaxnorm.engine.records import LoopInputs, LoopOutputs
from jaxnorm.norms.base import ReusesMoments
from jaxnorm.norms.core.moment_trees import KeptMoments, map_moments


def sites_to_keep(cell: Cell, inputs: LoopInputs, axis: int, feature_axes: int) -> CellNorms | None:
    """Marks the sites whose moments the forward pass is to keep; None if there are none, or nothing is measured.

    Args:
      cell: the cell.
      inputs: the inputs of the loop.
      axis: the time axis of its xs.
      feature_axes: the number of trailing axes of its xs.
    """
    batch = batch_sharding(inputs.xs, axis, feature_axes)
    is_spread = any(devices > 1 for devices in spread_by(mesh_of(inputs), batch))

    def keeps(norm: Any) -> bool:
        return isinstance(norm, ReusesMoments) and (is_spread or getattr(norm, "axis_name", None) is not None)

    keep = [keeps(norm) for norm in cell.sites]
    return CellNorms(*(KEEP if each else None for each in keep)) if inputs.stats is None and any(keep) else None


def kept_moments(outputs: LoopOutputs, sites: CellNorms | None) -> CellNorms | None:
    """Picks what the forward pass kept at the marked sites, with a leading axis of steps."""
    if sites is None:
        return None
    moments = combine_sites(outputs.input_moments, outputs.step_moments)
    # No stop_gradient: second derivatives differentiate the backward pass, which sees the means only as these values.
    return CellNorms(*(None if mark is None else each for mark, each in zip(sites, moments, strict=True)))


def without_kept(outputs: LoopOutputs) -> LoopOutputs:
    """The outputs with plain moments, as the caller gets them."""

    def plain(moments: Any) -> Any:
        return map_moments(lambda one: one.moments if isinstance(one, KeptMoments) else one, moments)

    return outputs._replace(input_moments=plain(outputs.input_moments), step_moments=plain(outputs.step_moments))
