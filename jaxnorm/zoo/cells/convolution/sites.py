"""Checks normalizers at the sites of a cell over images: a site shows all axes of an example, channels last."""

from typing import Any

from jaxnorm.norms.base import Normalizer
from jaxnorm.norms.core.batch_base import BatchStatistics


def check_image_site(caller: str, norm: Normalizer, axes: int) -> None:
    """Raises ValueError unless a normalizer reduces axes of one example, counted from the last, or the whole batch.

    Args:
      caller: cell and site, for messages.
      norm: the normalizer.
      axes: the number of axes of an example, with the channels.
    """
    spec: Any = norm
    axis = getattr(spec, "axis", -1)
    if axis in (-1, (-1,)) or isinstance(norm, BatchStatistics):
        norm.check_site(caller)
    else:
        chosen = (axis,) if isinstance(axis, int) else axis
        inside = chosen is not None and all(-axes <= a < 0 for a in chosen)
        if not inside or getattr(spec, "feature_axis", None) not in (None, -1):
            raise ValueError(
                f"{caller}: {norm!r} must reduce axes of one image, counted from the last: -1 for the channels, "
                f"{tuple(range(-axes, 0))} for the whole image. Pass axis=... with some of them."
            )
