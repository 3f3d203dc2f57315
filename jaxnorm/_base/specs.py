"""Changes fields of a spec and of the specs inside it."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

S = TypeVar("S")


def replace_fields(spec: S, values: Callable[[type], Mapping[str, Any]]) -> S:
    """Returns the spec with other values in some fields, also of the specs in its fields and in tuples.

    ``values`` gives them for a class, by the name of the field. A spec without such fields comes back itself.
    """
    replaced: S = _replace(spec, values)
    return replaced


def _replace(node: Any, values: Callable[[type], Mapping[str, Any]]) -> Any:
    if isinstance(node, tuple):
        parts = [_replace(part, values) for part in node]
        if all(new is old for new, old in zip(parts, node, strict=True)):
            return node
        return type(node)(*parts) if hasattr(node, "_fields") else tuple(parts)
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return node
    given, changes = values(type(node)), {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        new = given[field.name] if field.name in given else _replace(value, values)
        if new is not value:
            changes[field.name] = new
    if not changes:
        return node
    replaced = copy.copy(node)  # dataclasses.replace would check again, and a value need not fit the other fields
    for name, value in changes.items():
        object.__setattr__(replaced, name, value)
    return replaced


def without_axis_name(spec: S) -> S:
    """Returns the spec with ``axis_name=None``, also in the specs inside it: for initialization outside of the axis."""
    return replace_fields(spec, lambda kind: {"axis_name": None, "axis_index_groups": None})
