"""Runs several cells: in layers, and in both directions. These functions only call :func:`unroll`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects, validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import AnyArray, Array, Bool, Float, PRNGKeyArray, PyTree, Real, Shaped
from jaxnorm.cells.base import Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import check_inputs, check_mask, layout_shape
from jaxnorm.engine.arguments.keys import Keys, split_each
from jaxnorm.engine.unroll import Unrolled, unroll


class Directions(NamedTuple):
    """One entry for each direction."""

    forward: Any
    backward: Any

    # As a tuple it would equal a stack of two layers, and programs for one would serve the other.
    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((Directions, *self))


def one_for_each(caller: str, name: str, value: Any | None, count: int) -> Sequence[Any]:
    """Returns one entry per cell; None for each cell if ``value`` is None."""
    if value is None:
        return (None,) * count
    if not isinstance(value, list | tuple) or (hasattr(value, "_fields") and not isinstance(value, Directions)):
        raise TypeError(
            f"{caller}: {name} must be a list or tuple with one entry for each of the {count} cells, got "
            f"{objects.describe(value)}. {_advise_several(name, value, count)}"
        )
    if len(value) != count:
        raise ValueError(f"{caller}: {name} has {len(value)} entries, expected one for each of the {count} cells.")
    return tuple(value)


def _advise_several(name: str, value: Any, count: int) -> str:
    if isinstance(value, Mapping):
        line = "[cell.init(key, size) for cell, size in ...]"
        return f"A checkpoint that was read back: flax.serialization.from_state_dict({line}, {name})."
    if getattr(value, "ndim", 0) > 1 and value.shape[0] == count:  # as the states of all layers in PyTorch
        return f"Write tuple({name}) if its first axis is that of layers and directions."
    return f"Write [{name}, ...]."


def check_cells(caller: str, cells: Any) -> None:
    """Raises TypeError unless ``cells`` is a list or tuple of cells."""
    named = hasattr(cells, "_fields") and not isinstance(cells, Directions)
    if named or not isinstance(cells, list | tuple):
        line = objects.advise_parts(cells, objects.CELL) or "Write [cell] for a single one."
        raise TypeError(
            f"{caller}: cells must be a list or tuple of cell specs such as (ln_lstm(128), ln_lstm(128)), got "
            f"{objects.describe(cells)}. {line}"
        )
    for number, cell in enumerate(cells):
        check_layer(caller, f"cells[{number}]", cell)


def check_layer(caller: str, name: str, layer: Any) -> None:
    """Raises TypeError unless ``layer`` is a cell, or Directions of two cells."""
    if not isinstance(layer, Directions):
        return check_cell(caller, name, layer)
    for direction, cell in layer._asdict().items():
        check_cell(caller, f"{name}.{direction}", cell)


MERGES = {"sum": "jnp.add", "mul": "jnp.multiply", "ave": "lambda forward, backward: (forward + backward) / 2"}
"""The functions of both outputs, by their names in Keras."""


def check_merge(caller: str, name: str, merge: Any) -> None:
    """Raises TypeError unless ``merge`` is a function; for a name from Keras the message names the function."""
    if callable(merge):
        return
    line = f"Leave {name} out to concatenate features. {name}=jnp.add adds both, {name}=jaxnorm.Directions keeps both."
    if isinstance(merge, str) and merge in MERGES:
        line = f"Write {name}={MERGES[merge]}."
    raise TypeError(f"{caller}: {name} must be a function of both outputs, got {objects.describe(merge)}. {line}")


def concatenate(forward: PyTree, backward: PyTree) -> Float[Array, "..."]:
    """Concatenates the features of both directions."""
    if not isinstance(forward, jax.Array):
        raise TypeError(
            f"bidirectional: the outputs must be arrays, got {objects.describe(forward)}. Pass merge, a function of "
            "the outputs of both directions."
        )
    return jnp.concatenate([forward, backward], axis=-1)


def stack(
    cells: Sequence[Cell | Directions],
    params: Sequence[PyTree],
    xs: Real[Array, "..."],
    *,
    carry: Sequence[PyTree] | None = None,
    stats: Sequence[PyTree] | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | Keys | None = None,
    merge: Callable[[Array, Array], Array] = concatenate,
    **options: Any,
) -> Unrolled:
    """Stacks several cells: the outputs of each are the inputs of the next.

    Args:
      cells: the cells, from input to output; ``Directions(forward, backward)`` makes a bidirectional layer.
      params: the weights of each; cell k takes ``cells[k - 1].out_features`` features, those of both directions after a
        bidirectional layer.
      xs: inputs, as for :func:`unroll`.
      carry: one carry per cell; None starts from the initial carries.
      stats: running statistics of each cell; None measures.
      key: randomness; each cell gets a key of its own.
      merge: merges the two outputs of a bidirectional layer, as in :func:`bidirectional`.
      **options: ``lengths``, ``where``, ``reset``, ``reverse``, ``time_axis``, what to return and the options of the
        method, as for :func:`unroll`.

    Returns:
      Unrolled with the outputs of the last cell, and tuples of all carries and moments, with Directions for a
      bidirectional layer.

    Raises:
      ValueError: there is no cell, or a sequence has another length than ``cells``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_gru(2))
      >>> params = [cell.init(jax.random.key(0), size) for cell, size in zip(cells, (3, 4))]
      >>> out = jaxnorm.stack(cells, params, jnp.ones((5, 1, 3)))
      >>> out.outputs.shape, len(out.carry)
      ((5, 1, 2), 2)
    """
    layers = Layers(cells, params, carry, stats, key)
    return run_layers("stack", layers, xs, lambda layer, xs, outputs: outputs, {"merge": merge, **options})


class Layers(NamedTuple):
    """The cells of a stack and their arguments: a sequence with one entry for each cell, or None."""

    cells: Sequence[Cell | Directions]
    params: Sequence[PyTree]
    carry: Sequence[PyTree] | None
    stats: Sequence[PyTree] | None
    key: Any
    """A single key."""


def run_layers(
    caller: str, layers: Layers, xs: Array, connect: Callable[[int, Array, Array], Array], options: dict[str, Any]
) -> Unrolled:
    """Runs cells in turn; ``connect(layer, xs, outputs)`` makes the next inputs of a layer's inputs and outputs."""
    cells, params, carry, stats, key = layers
    check_cells(caller, cells)
    if isinstance(cells, Directions):
        raise TypeError(
            f"{caller}: cells must have one entry for each layer, got Directions, which are one layer. Write "
            "[Directions(forward, backward)], or call jaxnorm.bidirectional."
        )
    if key is not None and not isinstance(key, Keys):
        validate.key(caller, "key", key)
    count = len(cells)
    if count == 0:
        raise ValueError(f"{caller}: cells is empty. Pass at least one cell.")
    per_cell = zip(
        cells,
        one_for_each(caller, "params", params, count),
        one_for_each(caller, "carry", carry, count),
        one_for_each(caller, "stats", stats, count),
        split_each(key, count),
        strict=True,
    )
    merge = options.pop("merge", concatenate)
    check_merge(caller, "merge", merge)
    results = []
    for layer, (cell, cell_params, cell_carry, running, cell_key) in enumerate(per_cell):
        given = {"carry": cell_carry, "stats": running, "key": cell_key, **options}
        if isinstance(cell, Directions):
            out = bidirectional(cell, cell_params, xs, merge=merge, **given)
        else:
            out = unroll(cell, cell_params, xs, **given)
        xs = connect(layer, xs, out.outputs)
        results.append(out)
    return together(xs, results, tuple)


def together(outputs: PyTree, results: Sequence[Unrolled], several: Callable[[Any], Any]) -> Unrolled:
    """Joins the results of several cells; ``several`` makes the container of their carries and moments."""
    carries = several(r.carries for r in results) if any(r.carries is not None for r in results) else None
    return Unrolled(outputs, several(r.carry for r in results), several(r.moments for r in results), carries)


def bidirectional(
    cells: Sequence[Cell],
    params: Sequence[PyTree],
    xs: Real[Array, "..."],
    *,
    carry: Sequence[PyTree] | None = None,
    reset: Bool[AnyArray, "..."] | None = None,
    stats: Sequence[PyTree] | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | Keys | None = None,
    time_axis: int = 0,
    merge: Callable[[Any, Any], Any] = concatenate,
    **options: Any,
) -> Unrolled:
    """Runs one cell from the first step to the last and another from the last to the first.

    Args:
      cells: the cell for each direction, forward first.
      params: the weights of each.
      xs: inputs, as for :func:`unroll`.
      carry: the state of each before its first step; None starts from the initial carries.
      reset: True at the first step of every sequence, as for a forward run; the backward direction moves each reset to
        the last step of the previous sequence.
      stats: running statistics of each; None measures.
      key: randomness; each direction gets its own.
      time_axis: the axis of time.
      merge: merges the two outputs, such as ``jnp.add``; by default it concatenates features. ``Directions`` returns
        both separately.
      **options: ``lengths``, ``where``, what to return and the options of the method, as for :func:`unroll`.

    Returns:
      Unrolled with merged outputs, and Directions of carries and moments.

    Raises:
      ValueError: a sequence does not have two entries.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(4))
      >>> params = [cell.init(jax.random.key(k), 3) for k, cell in enumerate(cells)]
      >>> jaxnorm.bidirectional(cells, params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 8)
    """
    if options.pop("reverse", False):
        raise TypeError("bidirectional: reverse is not an option here. Swap the two cells instead.")
    check_cells("bidirectional", cells)
    check_merge("bidirectional", "merge", merge)
    if key is not None and not isinstance(key, Keys):
        validate.key("bidirectional", "key", key)
    both = one_for_each("bidirectional", "cells", cells, 2)
    cell_params = one_for_each("bidirectional", "params", params, 2)
    states = one_for_each("bidirectional", "carry", carry, 2)
    running = one_for_each("bidirectional", "stats", stats, 2)
    keys = split_each(key, 2)
    axes = hooks(both[0]).feature_axes
    check_inputs("bidirectional", "xs", xs, axes, any_dtype=not hooks(both[0]).fixes_params)
    reset = check_mask("bidirectional", "reset", reset, layout_shape(xs, axes), f"xs.shape[:-{axes}]")
    ends = None if reset is None else _sequence_ends(reset, time_axis)
    results = Directions(
        *(
            unroll(
                both[k],
                cell_params[k],
                xs,
                carry=states[k],
                stats=running[k],
                key=keys[k],
                reset=ends if k else reset,
                reverse=bool(k),
                time_axis=time_axis,
                **options,
            )
            for k in range(2)
        )
    )
    outputs = merge(results.forward.outputs, results.backward.outputs)
    return together(outputs, results, lambda both: Directions(*both))


def _sequence_ends(reset: Array, time_axis: int) -> Array:
    """Moves each sequence start to the last step of the previous sequence."""
    starts = jnp.moveaxis(reset, time_axis, 0)
    ends = jnp.concatenate([starts[1:], jnp.zeros_like(starts[:1])])
    return jnp.moveaxis(ends, 0, time_axis)
