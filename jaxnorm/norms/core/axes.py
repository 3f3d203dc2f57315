"""Which axes a normalizer reduces, and where its weights lie."""

from jaxnorm._base import validate
from jaxnorm._base.axis_slice import AxisSlice
from jaxnorm._base.typing import Array, Axis

_PUBLISHED_GROUPS = 32


def hashable_axis(caller: str, name: str, axis: Axis, *, may_be_empty: bool = False) -> Axis:
    """Makes an axis hashable for a spec: an int, a tuple of ints or a slice."""
    if isinstance(axis, slice):
        return validate.hashable_slice(caller, name, axis)
    if isinstance(axis, AxisSlice):
        return axis
    if isinstance(axis, list):
        axis = tuple(axis)
    entries = axis if isinstance(axis, tuple) else (axis,)
    if not (entries or may_be_empty) or not all(isinstance(a, int) and not isinstance(a, bool) for a in entries):
        raise TypeError(
            f"{caller}: {name} must be an int or a non-empty tuple of ints, got {axis!r}. A slice works, too."
        )
    return axis


def shape_along(caller: str, shape: tuple[int, ...], axis: Axis, name: str = "axis") -> tuple[int, ...]:
    """The part of a shape along the given axes."""
    return tuple(shape[a] for a in validate.axes(caller, axis, len(shape), name))


def row_axes(caller: str, ndim: int, axis: Axis, feature_axis: Axis | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the axes that share statistics, and those of the weights, by default the same."""
    axes = validate.axes(caller, axis, ndim)
    return axes, axes if feature_axis is None else validate.axes(caller, feature_axis, ndim, "feature_axis")


def batch_axes(caller: str, ndim: int, axis: Axis | None, feature_axis: Axis | None = None) -> tuple[int, ...]:
    """Returns the axes that batch statistics reduce: those of ``axis``, or all but ``feature_axis`` (the last)."""
    if axis is not None and feature_axis is None:
        return validate.axes(caller, axis, ndim)
    kept = (ndim - 1,) if feature_axis is None else validate.axes(caller, feature_axis, ndim, "feature_axis")
    others = tuple(a for a in range(ndim) if a not in kept)
    if axis is not None and validate.axes(caller, axis, ndim) != others:
        raise ValueError(
            f"{caller}: axis={axis} and feature_axis={feature_axis} must name each of the {ndim} axes of x once: batch "
            "statistics have a value for each element of the axes that are not reduced. Give one of them."
        )
    return others


def refuse_reduced(
    caller: str, shape: tuple[int, ...], axis: Axis | None, axes: tuple[int, ...], **arrays: Array | None
) -> None:
    """Raises ValueError for weights or statistics with the shape of the axes that are reduced, not of the others."""
    kept = tuple(a for a in range(len(shape)) if a not in axes)
    reduced = tuple(shape[a] for a in axes)
    for name, array in arrays.items():
        if getattr(array, "shape", None) != reduced or len(reduced) == len(shape) or _fits(reduced, shape, kept):
            continue
        raise ValueError(
            f"{caller}: axis={axis} names the axes that are reduced, and {name} has the shape of x = {shape} along "
            f"them, {reduced}, not along the others, {tuple(shape[a] for a in kept)}. For a value for each feature "
            f"there, reduce the others: axis={kept}."
        )


def _fits(sizes: tuple[int, ...], shape: tuple[int, ...], kept: tuple[int, ...]) -> bool:
    """Whether an array broadcasts along the last of the kept axes."""
    last = kept[len(kept) - len(sizes) :]
    return len(sizes) <= len(kept) and all(size in (1, shape[a]) for size, a in zip(sizes, last, strict=True))


def position_axes(
    caller: str, shape: tuple[int, ...], axis: Axis | None, feature_axis: Axis
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the position axes (by default all but the first and the feature axes, even none) and the feature axes."""
    features = validate.axes(caller, feature_axis, len(shape), "feature_axis")
    if axis is None:
        if 0 in features:
            raise ValueError(
                f"{caller}: feature_axis={feature_axis} names the first axis of x with shape {shape}, which holds the "
                "examples where axis is None. For an example without a batch pass axis: height and width, or time."
            )
        return tuple(a for a in range(1, len(shape)) if a not in features), features
    axes = validate.axes(caller, axis, len(shape))
    if not axes or any(feature in axes for feature in features):
        raise ValueError(
            f"{caller}: axis={axis} of x with shape {shape} must name at least one position axis and not "
            f"feature_axis={feature_axis}. Pass the axes of height and width, or of time."
        )
    return axes, features


def group_axes(
    caller: str,
    shape: tuple[int, ...],
    num_groups: int | None,
    axis: Axis | None,
    feature_axis: int,
    group_size: int | None = None,
) -> tuple[tuple[int, ...], int, int]:
    """Returns the axes that a group reduces, the feature axis, and the number of groups.

    With axis None it reduces all axes but the first, and all if the features are there: then there is no batch.
    """
    feature = validate.one_axis(caller, feature_axis, len(shape), "feature_axis")
    axes = tuple(range(min(1, feature), len(shape))) if axis is None else validate.axes(caller, axis, len(shape))
    if feature not in axes:
        raise ValueError(
            f"{caller}: axis={axis} must contain feature_axis={feature_axis}, since statistics run over the "
            "features of a group. Add it to axis."
        )
    place = f"(axis {feature_axis} of x with shape {shape})"
    return axes, feature, count_groups(caller, shape[feature], num_groups, group_size, place)


def count_groups(caller: str, features: int, num_groups: int | None, group_size: int | None, place: str) -> int:
    """The number of groups of some features; raises ValueError unless the groups are equal."""
    groups = check_groups(caller, num_groups, group_size)
    if groups == -1:
        return features
    divisor = groups or group_size or 1
    if features % divisor:
        name = "group_size" if groups is None else "num_groups"
        raise ValueError(
            f"{caller}: {name}={divisor} must divide the number of features F = {features} {place}. "
            "Choose a divisor of F."
        )
    return divisor if groups is not None else features // divisor


def check_groups(caller: str, num_groups: int | None, group_size: int | None) -> int | None:
    """Checks the two ways to say the groups, of which at most one is given; returns their number, if it is known."""
    if group_size is None:
        if num_groups is None:
            return _PUBLISHED_GROUPS
        return -1 if num_groups == -1 else validate.positive_int(caller, "num_groups", num_groups)
    validate.positive_int(caller, "group_size", group_size)
    if num_groups is not None:
        raise ValueError(
            f"{caller}: num_groups={num_groups} and group_size={group_size} are two ways to say the groups. "
            "Give one of them, and None for the other."
        )
    return None


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
