"""Calls functions of users that may only use their arguments and constants: no arrays that are being traced outside.

A compiled program is kept for as long as its function. An array that an outer ``jit`` or ``grad`` traces is gone before
that, and no gradient would reach it.
"""

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp


def check_closure(caller: str, name: str, function: Any) -> None:
    """Raises TypeError if a function holds a traced array: in its closure, a default, a partial, or its object."""
    for value in held(function):
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, jax.core.Tracer):
                _refuse(caller, name, leaf)


def call(caller: str, name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function of trees of arrays; raises TypeError if it uses a traced array that is not in ``args``."""
    from jax.extend.core import jaxpr_as_fun  # lazy: it costs a tenth of jaxnorm's import time

    try:
        # A new function each time: JAX would otherwise hand back the program of a former call.
        program, shapes = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)
    except jax.errors.UnexpectedTracerError as error:
        raise TypeError(_message(caller, name, "")) from error
    for constant in program.consts:
        if isinstance(constant, jax.core.Tracer):
            _refuse(caller, name, constant)
    # A result that is a constant of the program comes back as NumPy's.
    leaves = [jnp.asarray(leaf) for leaf in jaxpr_as_fun(program)(*jax.tree.leaves(args))]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def held(function: Any) -> Iterator[Any]:
    """Yields what a function holds besides its code: in its closure, defaults, partials, or its object."""
    yield from _held(function, set())


def _held(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yields what a value holds, and what functions inside of it hold; ``seen`` are the values so far."""
    if id(value) in seen:
        return
    seen.add(id(value))
    parts: list[Any] = []
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, *getattr(value.__self__, "__dict__", {}).values(), value.__self__]
    elif isinstance(value, types.FunctionType):
        full = [cell for cell in value.__closure__ or () if cell != types.CellType()]  # an empty cell holds nothing yet
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        parts = [*(cell.cell_contents for cell in full), *defaults]
    elif hasattr(value, "__wrapped__"):  # a function under jit, remat and the like
        parts = [value.__wrapped__]
    else:
        yield value
    for part in parts:
        yield from _held(part, seen)


def _refuse(caller: str, name: str, tracer: Any) -> NoReturn:
    raise TypeError(_message(caller, name, f" ({tracer.aval.str_short()})"))


def _message(caller: str, name: str, what: str) -> str:
    return (
        f"{caller}: {name} uses an array{what} from outside that jit, grad or another transformation is tracing. Pass "
        "it in params (or in xs, if each step has its own), so that gradients reach it and programs can be used again."
    )
