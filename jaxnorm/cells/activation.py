"""The nonlinearities of cells as fields of specs: their usual values, their checks, and pickling by name."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array

PROBE = (2, 3)
"""The shape with which a function is tried."""


class Reference(NamedTuple):
    """Module and name of a function, in its place in a pickle."""

    module: str
    name: str


class NamedFunctions:
    """Makes a spec with functions as fields picklable: jitted functions such as ``jnp.tanh`` are not."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: _by_name(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: _found(value) for name, value in state.items()})


@dataclasses.dataclass(frozen=True)
class Gated(NamedFunctions):
    r"""The nonlinearities of a cell with gates.

    Attributes:
      gate_fn: the function of the gates, for which the equations write :math:`\sigma`: any function of one array that
        acts on each element, such as ``jax.nn.hard_sigmoid``.
      activation_fn: the function of the candidate and of the output, for which the equations write tanh.
    """

    _: dataclasses.KW_ONLY
    gate_fn: Callable[[Array], Array] = jax.nn.sigmoid
    activation_fn: Callable[[Array], Array] = jnp.tanh


def check_functions(spec: Any) -> None:
    """Checks the nonlinearities that a spec has, and replaces other forms of the usual ones."""
    for name in ("gate_fn", "activation_fn"):
        if hasattr(spec, name):
            object.__setattr__(spec, name, check_function(type(spec).__name__, name, getattr(spec, name)))


def check_function(caller: str, name: str, function: Any) -> Callable[[Array], Array]:
    """Returns the function, or, for another form of the logistic function or tanh, the usual one.

    So specs with equal functions are equal. Raises TypeError unless it is a hashable function of one array, and
    ValueError if it changes the shape.
    """
    if function is jax.nn.sigmoid or function is jax.lax.logistic:
        return jax.nn.sigmoid
    if function is jnp.tanh or function is jax.lax.tanh:
        return jnp.tanh
    try:
        hash(function)
        got = jax.eval_shape(function, jax.ShapeDtypeStruct(PROBE, jnp.float32))  # type: ignore[no-untyped-call]
    except Exception as error:
        known = isinstance(function, str) and hasattr(jax.nn, function)
        reason = f", which raises {type(error).__name__} when hashed or called" if callable(function) else ""
        raise TypeError(
            f"{caller}: {name} must be a hashable function of one array, got {objects.describe(function)}{reason}. "
            f"Write {name}=jax.nn.{function if known else 'relu'}."
        ) from error
    if getattr(got, "shape", None) != PROBE:
        raise ValueError(
            f"{caller}: {name} must act on each element alone, but {objects.describe(function)} makes "
            f"{getattr(got, 'shape', got)} of the shape {PROBE}."
        )
    checked: Callable[[Array], Array] = function
    return checked


def _by_name(value: Any) -> Any:
    """Returns the Reference of a function that its module holds under its name, and any other value itself."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str) or isinstance(value, type):
        return value
    return Reference(module, name) if getattr(sys.modules.get(module), name, None) is value else value


def _found(value: Any) -> Any:
    return getattr(importlib.import_module(value.module), value.name) if isinstance(value, Reference) else value
