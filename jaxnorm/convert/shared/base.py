"""The result of all converters, the function that runs it, and shared checks."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float, PyTree
from jaxnorm.cells.base import Cell
from jaxnorm.engine.stacks import Directions, bidirectional, together
from jaxnorm.engine.unroll import Unrolled, unroll


class Imported(NamedTuple):
    """Weights of another library, ready for use.

    ``spec`` is a cell, a normalizer or a weight normalizer, ``params`` its weights, ``stats`` running statistics or
    the state of a weight normalizer (``()`` if there are none). For a recurrent layer with two directions they are
    ``Directions``; for several layers they are tuples with one entry per layer. ``notes`` list what the source does
    besides its weights and you must do yourself, such as dropout or another order of axes.
    """

    spec: Any
    params: PyTree
    stats: PyTree = ()
    notes: tuple[str, ...] = ()


def run(spec: Any, params: PyTree, xs: Float[Array, "..."], *, carry: PyTree | None = None, **options: Any) -> Unrolled:
    """Runs an imported recurrent layer, with one or several layers, in one or both directions.

    Args:
      spec: ``Imported.spec``: a cell, ``Directions`` of two cells, or a tuple with one of these for each layer.
      params: the weights, in the same structure.
      xs: inputs, as for :func:`jaxnorm.unroll`.
      carry: states before the first step, in the same structure; None starts from the initial carries.
      **options: ``lengths``, ``where``, ``time_axis`` and others, as for :func:`jaxnorm.unroll`.

    Returns:
      Unrolled with the outputs of the last layer, and carry and moments in the structure of ``spec``.

    Raises:
      TypeError: ``spec`` contains something other than cells.
      ValueError: the numbers of layers differ.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> from jaxnorm import convert
      >>> both = jaxnorm.Directions(jaxnorm.gru(2), jaxnorm.gru(2))
      >>> weights = jaxnorm.Directions(*(cell.init(jax.random.key(k), 3) for k, cell in enumerate(both)))
      >>> convert.run(both, weights, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 4)
    """
    if isinstance(spec, Directions):
        return bidirectional(spec, params, xs, carry=carry, **options)
    if isinstance(spec, tuple):
        states = (None,) * len(spec) if carry is None else carry
        if not len(spec) == len(params) == len(states):
            raise ValueError(
                f"convert.run: spec has {len(spec)} layers, params {len(params)}, carry {len(states)}. "
                "All must have one entry for each layer."
            )
        results = []
        for layer, weights, state in zip(spec, params, states, strict=True):
            results.append(run(layer, weights, xs, carry=state, **options))
            xs = results[-1].outputs
        return together(xs, results, tuple)
    if not objects.is_one(spec, Cell):
        raise TypeError(
            f"convert.run: spec must be a cell, Directions of cells or a tuple of them, got {objects.describe(spec)}. "
            f"{objects.advise(spec, objects.CELL)} A normalizer is called itself: spec(params, x, stats)."
        )
    return unroll(spec, params, xs, carry=carry, **options)


INITIAL = (
    "forget_bias", "input_bias", "update_bias", "kernel_init", "recurrent_init", "projection_init", "scale_init",
    "bias_init",
)  # fmt: skip
NEUTRAL = frozenset((*INITIAL, "dtype", "param_dtype", "carry_dtype", "axis_name"))
"""Fields of specs that affect neither the trained weights nor the function they compute."""


def differences(spec: Any, other: Any, neutral: frozenset[str] = NEUTRAL) -> dict[str, tuple[Any, Any]]:
    """Returns the fields that make two specs of one type compute different functions."""
    return {
        field.name: (getattr(spec, field.name), getattr(other, field.name))
        for field in dataclasses.fields(spec)
        if field.name not in neutral and getattr(spec, field.name) != getattr(other, field.name)
    }


def settle(caller: str, made: Any, spec: Any, neutral: frozenset[str] = NEUTRAL) -> Any:
    """Returns the spec of the source, or the caller's own if it computes the same."""
    if spec is None:
        return made
    check_spec(caller, spec)
    if type(spec) is not type(made):
        raise ValueError(f"{caller}: spec is {spec!r}, but the weights are those of {made!r}. Leave spec out.")
    for name, (given, found) in differences(spec, made, neutral).items():
        raise ValueError(
            f"{caller}: spec has {name}={given!r}, but the weights are those of {name}={found!r}. Leave spec out, and "
            "change the result: weights of a normalizer, for example, are not in the source."
        )
    return spec


class NoCounterpartError(ValueError):
    """The error for something that has no counterpart."""


class UndeterminedError(ValueError):
    """The error for what the names and shapes of arrays do not tell."""


def refuse(caller: str, what: str, why: str) -> NoReturn:
    """Raises the common error for anything without a counterpart."""
    raise NoCounterpartError(f"{caller}: {what} cannot be represented: {why}")


def require_same(caller: str, spec: Any, only: Any, neutral: frozenset[str] = NEUTRAL) -> None:
    """Refuses a spec unless it computes the only function that the other library has."""
    if type(spec) is not type(only):
        refuse(caller, f"{spec!r}", f"the layer there is {only!r}.")
    for name, (given, there) in differences(spec, only, neutral).items():
        refuse(caller, f"{name}={given!r}", f"the layer there has {there!r}.")


def check_spec(caller: str, spec: Any) -> None:
    """Raises TypeError unless ``spec`` is a spec, or a tuple or Directions of specs."""
    if isinstance(spec, tuple) and spec:
        for each in spec:
            check_spec(caller, each)
    elif not objects.is_spec(spec):
        objects.refuse(caller, "spec", spec, objects.SPEC)


def check_mapping(caller: str, name: str, value: Any, what: str) -> None:
    """Raises TypeError unless ``value`` is a dict."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{caller}: {name} must be a dict, {what}, got {objects.describe(value)}.")


def check_module(caller: str, module: Any, library: str, noun: str) -> None:
    """Raises TypeError unless ``module`` is a live module of the library."""
    if isinstance(module, type) or not any(base.__module__.startswith(library) for base in type(module).__mro__):
        raise TypeError(
            f"{caller}: module must be {noun}, got {objects.describe(module)}, which is no module that has a "
            "counterpart. Pass the live module; specs go to export."
        )
