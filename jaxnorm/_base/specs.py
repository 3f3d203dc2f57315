"""Shows the fields of a spec, and changes those of a spec and of the specs inside it."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

S = TypeVar("S")


class Readable:
    """A spec that prints as the line that makes it: fields with their defaults are left out."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = Readable.__repr__  # type: ignore[method-assign]  # else a dataclass writes its own

    def shown_fields(self) -> dict[str, Any]:
        """Returns the values of the fields by name."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return {field.name: getattr(self, field.name) for field in fields if field.init}

    def __repr__(self) -> str:
        fields = {field.name: field for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        parts = []
        for name, value in self.shown_fields().items():
            default, keyword = fields[name].default, fields[name].kw_only
            if default is dataclasses.MISSING and not keyword:
                parts.append(_shown(value))
            elif not _same(value, default):
                parts.append(f"{name}={_shown(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _same(value: Any, default: Any) -> bool:
    try:
        return value is default or bool(value == default)
    except (TypeError, ValueError):  # arrays
        return False


def _shown(value: Any) -> str:
    """The text of a value: functions and dtypes by their names, also in tuples."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        defaults: dict[str, Any] = getattr(value, "_field_defaults", {})
        named = zip(value._fields, value, strict=True)
        parts = [f"{name}={_shown(part)}" for name, part in named if not _same(part, defaults.get(name, value))]
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    if isinstance(value, np.dtype):
        return repr(value.name)
    text = repr(value)
    return getattr(value, "__name__", text) if text.startswith("<") else text


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
