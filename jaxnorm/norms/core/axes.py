"""Which axes a normalizer reduces, and where its weights lie."""

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Axis


def hashable_axis(caller: str, name: str, axis: Axis) -> Axis:
    """Makes an axis hashable for a spec: an int or a tuple of ints."""
    if isinstance(axis, list):
        axis = tuple(axis)
    entries = axis if isinstance(axis, tuple) else (axis,)
    if not entries or not all(isinstance(a, int) and not isinstance(a, bool) for a in entries):
        raise TypeError(f"{caller}: {name} must be an int or a non-empty tuple of ints, got {axis!r}.")
    return axis


def shape_along(caller: str, shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The part of a shape along the given axes."""
    return tuple(shape[a] for a in validate.axes(caller, axis, len(shape)))


def position_axes(
    caller: str, shape: tuple[int, ...], axis: Axis | None, feature_axis: int
) -> tuple[tuple[int, ...], int]:
    """Returns the position axes (by default all but the first and the feature axis) and the feature axis."""
    (feature,) = validate.axes(caller, feature_axis, len(shape))
    if axis is None:
        axes = tuple(a for a in range(1, len(shape)) if a != feature)
    else:
        axes = validate.axes(caller, axis, len(shape))
    if feature in axes or not axes:
        raise ValueError(
            f"{caller}: axis={axis} of x with shape {shape} must name at least one position axis and not "
            f"feature_axis={feature_axis}. Pass the axes of height and width, or of time."
        )
    return axes, feature


def group_axes(
    caller: str, shape: tuple[int, ...], num_groups: int, axis: Axis | None, feature_axis: int
) -> tuple[tuple[int, ...], int]:
    """Returns the axes that a group reduces (by default all but the first, or the only one) and the feature axis."""
    groups = validate.positive_int(caller, "num_groups", num_groups)
    axes = tuple(range(min(1, len(shape) - 1), len(shape))) if axis is None else validate.axes(caller, axis, len(shape))
    (feature,) = validate.axes(caller, feature_axis, len(shape))
    if feature not in axes:
        raise ValueError(
            f"{caller}: axis={axis} must contain feature_axis={feature_axis}, since statistics run over the "
            "features of a group. Add it to axis."
        )
    if shape[feature] % groups:
        raise ValueError(
            f"{caller}: num_groups={groups} must divide the number of features F = {shape[feature]} "
            f"(axis {feature_axis} of x with shape {shape}). Choose a divisor of F."
        )
    return axes, feature


def split_groups(array: Array, groups: int, feature: int) -> Array:
    """Splits the feature axis into (group, member). A mask that does not vary over features gets size 1 for both."""
    size = array.shape[feature]
    parts = (groups, size // groups) if size % groups == 0 else (1, 1)
    return array.reshape(array.shape[:feature] + parts + array.shape[feature + 1 :])


def in_groups(
    x: Array, where: Array | None, groups: int, axes: tuple[int, ...], feature: int
) -> tuple[Array, Array | None, tuple[int, ...]]:
    """Splits the feature axis of data and mask; also returns the new reduced axes, without the group axis."""
    # The member axis follows the group axis, so every axis from the feature axis on moves by one.
    split_axes = tuple(a if a < feature else a + 1 for a in axes)
    mask = None if where is None else split_groups(where, groups, feature)
    return split_groups(x, groups, feature), mask, split_axes
