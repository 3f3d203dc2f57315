"""The first axis of what a module gets is the batch, and statistics that last from call to call have no batch."""

from typing import Any

from jaxnorm.norms.core.axes import batch_axes
from jaxnorm.norms.core.batch_base import BatchStatistics


def check_batch_axis(caller: str, spec: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError for batch statistics whose ``axis`` leaves out the batch, as if it named the features.

    Features may come first; ``feature_axis`` says so. Specs without that field are not asked.
    """
    if not isinstance(spec, BatchStatistics) or getattr(spec, "feature_axis", spec) is not None:
        return
    axis = getattr(spec, "axis", None)
    if 0 in batch_axes(caller, len(shape), axis):
        return
    raise ValueError(
        f"{caller}: axis={axis} of {type(spec).__name__} would give each example of x with shape {shape} statistics "
        f"of its own, with shape {spec.param_shape(shape)}. In batch statistics axis names what is averaged, so leave "
        "it out for features on the last axis, and write feature_axis=1, or 0, for others."
    )
