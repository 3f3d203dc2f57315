"""Stacked cores of Haiku: converts the input order of cores with skip connections."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxnorm.convert.shared.base import Imported


def join(caller: str, layers: Sequence[Imported], skip_connections: bool) -> Imported:
    """Joins cells to a stack and permutes the rows of kernels to the stack's order of inputs."""
    specs = tuple(layer.spec for layer in layers)
    params = [layer.params for layer in layers]
    _check(caller, specs, params, skip_connections)
    if skip_connections:
        inputs = params[0].kernel.shape[0]
        params[1:] = [_move(own, inputs) for own in params[1:]]
    notes = tuple(dict.fromkeys(note for layer in layers for note in layer.notes))
    runner = "skip_stack" if skip_connections else "stack"
    return Imported(specs, tuple(params), ((),) * len(specs), (*notes, f"run the cells by jaxnorm.{runner}"))


def split(caller: str, specs: tuple[Any, ...], params: Any, skip_connections: bool) -> list[Any]:
    """Returns the weights of each cell of a stack, with the rows of kernels in Haiku's order of inputs."""
    if not isinstance(params, list | tuple) or len(params) != len(specs):
        raise ValueError(f"{caller}: spec has {len(specs)} cells; params must have one entry for each of them.")
    _check(caller, specs, params, skip_connections)
    first = [params[0]]
    if not skip_connections:
        return [*first, *params[1:]]
    return first + [_move(own, below.out_features) for own, below in zip(params[1:], specs[:-1], strict=True)]


def default_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the names that Haiku gives modules of these classes: from the second of a class on with a number."""
    seen: dict[str, int] = {}
    names = []
    for kind in classes:
        count = seen.get(kind, 0)
        names.append(f"{kind}_{count}" if count else kind)
        seen[kind] = count + 1
    return tuple(names)


def _move(params: Any, first: int) -> Any:
    """Moves the first rows of the input kernel behind the others."""
    return params._replace(kernel=jnp.concatenate([params.kernel[first:], params.kernel[:first]]))


def _check(caller: str, specs: Sequence[Any], params: Sequence[Any], skip_connections: bool) -> None:
    """Raises unless every cell takes the number of features that the layers below provide."""
    inputs = params[0].kernel.shape[0]
    for number in range(1, len(specs)):
        below, rows = specs[number - 1].out_features, params[number].kernel.shape[0]
        if rows != below + inputs * skip_connections:
            other = rows == below + inputs * (not skip_connections)
            hint = f"Pass skip_connections={not skip_connections}." if other else "Name the layers in their order."
            parts = f"{below} outputs" + f" and {inputs} inputs" * skip_connections
            raise ValueError(f"{caller}: layer {number} takes {rows} features, but sees {parts}. {hint}")
