"""A spec without its initializers, by which programs are told apart that do not make weights.

An initializer that is made in place, such as ``jax.nn.initializers.normal(0.1)``, equals no other one. A spec that
holds it is right to differ from the others for ``init``, which draws with it; a loop that compares it would be compiled
anew at every call.
"""

import copy
import dataclasses
from functools import cache
from typing import Any, TypeVar, get_args

import jax

from jaxnorm._typing import Initializer

S = TypeVar("S")


def without_initializers(spec: S) -> S:
    """The same spec, and specs inside of it, with the default in each field that may hold an initializer."""
    stripped: S = _strip(spec)
    return stripped


def _strip(node: Any) -> Any:
    if isinstance(node, tuple):
        parts = [_strip(part) for part in node]
        if all(new is old for new, old in zip(parts, node, strict=True)):
            return node
        return type(node)(*parts) if hasattr(node, "_fields") else tuple(parts)
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return node
    defaults = initializer_defaults(type(node))
    changes = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        new = defaults[field.name] if field.name in defaults else _strip(value)
        if new is not value:
            changes[field.name] = new
    if not changes:
        return node
    stripped = copy.copy(node)  # not dataclasses.replace, which checks again: a default need not fit the other fields
    for name, value in changes.items():
        object.__setattr__(stripped, name, value)
    return stripped


@cache
def initializer_defaults(kind: Any) -> dict[str, Any]:
    """The default of each field of a spec that may hold an initializer, as its annotation says."""
    return {
        field.name: field.default
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING and _admits_initializer(field.type)
    }


def _admits_initializer(annotation: Any) -> bool:
    if isinstance(annotation, str):  # the module of a user's cell may put off its annotations
        return "Initializer" in annotation
    if annotation in (Initializer, jax.nn.initializers.Initializer):
        return True
    return any(_admits_initializer(part) for part in get_args(annotation) if part is not ...)
