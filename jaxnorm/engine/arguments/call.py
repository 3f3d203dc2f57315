"""The arrays of a call that runs a cell over sequences, as the caller passes them, and their checks."""

from typing import Any

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import AnyArray, Array
from jaxnorm.cells.base import Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import (
    check_arrays,
    check_inputs,
    check_lengths,
    check_mask,
    check_params,
    layout_shape,
)
from jaxnorm.engine.arguments.keys import Keys


class Arguments(NamedTuple):
    """The arrays of a call, under its names."""

    params: Any
    xs: Array
    carry: Any
    lengths: AnyArray | None
    where: AnyArray | None
    reset: AnyArray | None
    stats: Any
    key: Array | Keys | None


def check_call(caller: str, cell: Cell, arguments: Arguments, time_axis: int) -> tuple[Arguments, int]:
    """Checks what shapes and dtypes tell; returns masks and lengths as arrays, and the axis of time, not negative."""
    check_cell(caller, "cell", cell)
    params, xs, carry, lengths, where, reset, stats, key = arguments
    axes = hooks(cell).feature_axes
    check_inputs(caller, "xs", xs, axes, any_dtype=not hooks(cell).fixes_params)
    (time,) = validate.axes(caller, time_axis, xs.ndim)
    layout = layout_shape(xs, axes)
    if time >= len(layout):
        raise ValueError(f"{caller}: time_axis={time_axis} is the feature axis of xs with shape {xs.shape}.")
    where, reset = (
        check_mask(caller, name, mask, layout, f"xs.shape[:-{axes}]")
        for name, mask in (("where", where), ("reset", reset))
    )
    lengths = check_lengths(caller, "lengths", lengths, layout[:time] + layout[time + 1 :])
    if not isinstance(params, tuple):  # check before jit, which would refuse other objects with its own message
        check_params(cell, params, caller)
    for name, tree in (("params", params), ("carry", carry), ("stats", stats)):
        check_arrays(caller, name, tree)
    if key is not None and not isinstance(key, Keys):
        validate.key(caller, "key", key)
    return Arguments(params, xs, carry, lengths, where, reset, stats, key), time
