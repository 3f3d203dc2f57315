"""Strips initializers from a spec, so that programs that make no weights can use it as a compilation key.

An initializer that you make in place, such as ``jax.nn.initializers.normal(0.1)``, equals no other one. A spec with it
must differ from other specs in ``init``, which draws with it; but a loop keyed by such a spec would recompile at every
call.
"""

import dataclasses
from functools import cache
from typing import Any, TypeVar, get_args

import jax

from jaxnorm._base.specs import replace_fields
from jaxnorm._base.typing import Initializer, ParamsInitializer

S = TypeVar("S")


def without_initializers(spec: S) -> S:
    """Returns the spec, including the specs inside it, with every field that may hold an initializer at its default."""
    return replace_fields(spec, initializer_defaults)


@cache
def initializer_defaults(kind: Any) -> dict[str, Any]:
    """Returns the default of each field whose annotation admits an initializer."""
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING and _admits_initializer(field.type)
    }


def _admits_initializer(annotation: Any) -> bool:
    if isinstance(annotation, str):  # postponed annotations in the module of a user's cell
        return "Initializer" in annotation
    if annotation in (Initializer, ParamsInitializer, jax.nn.initializers.Initializer):
        return True
    return any(_admits_initializer(part) for part in get_args(annotation) if part is not ...)
