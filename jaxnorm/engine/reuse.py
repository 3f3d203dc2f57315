"""The moments of the forward pass that the backward pass uses again, in place of measuring a second time.

To measure a batch that spans several devices takes a collective. A normalizer that declares ``reuses_moments`` takes
the moments that the forward pass measured, and differentiates as if it had measured them itself: it returns them from a
``jax.custom_jvp`` whose rule is that of the measurement, and ignores the tangents of what it was handed.
"""

from typing import Any

import jax

from jaxnorm.cells.base import Cell
from jaxnorm.cells.sites import CellNorms, combine_sites
from jaxnorm.engine.records import LoopOutputs
from jaxnorm.norms.base import ReusesMoments


def moments_to_reuse(cell: Cell, stats: Any, outputs: LoopOutputs) -> CellNorms | None:
    """Picks the moments at the sites whose normalizers can reuse them, with a leading axis of steps; None if none can.

    Args:
      cell: the cell.
      stats: the running statistics of the run; with them nothing is measured.
      outputs: what the forward pass returned.
    """
    if stats is not None:
        return None
    moments = combine_sites(outputs.input_moments, outputs.step_moments)
    picked = [entry if _reuses(norm) else None for norm, entry in zip(cell.sites, moments, strict=True)]
    if not jax.tree.leaves(picked):
        return None
    # No stop_gradient: second derivatives differentiate the backward pass, which sees the means only as these values.
    return CellNorms(*picked)


def _reuses(norm: Any) -> bool:
    """Whether a normalizer can use moments of the forward pass; one that does not say so cannot."""
    return isinstance(norm, ReusesMoments) and norm.reuses_moments
