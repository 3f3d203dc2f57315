"""A spec is made of its function: defaults, keywords and their texts stand once, in the function.

A class body names the function and the fields. :class:`Spec` takes their defaults and their documentation from the
function's signature and docstring, compares the rest, and makes the frozen dataclass.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, dataclass_transform, get_origin

from jaxnorm._base.keywords import AnswersKeywords
from jaxnorm._base.specs import Readable
from jaxnorm.norms.core.docstrings import document


class _Default:
    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Any = _Default()
"""The default of a field that stands elsewhere: in the function's keyword of this name, else in the base's field."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
class Spec(AnswersKeywords, Readable):
    """The base of specs: makes each class a frozen dataclass whose fields are the keywords of its ``function``.

    Fields are keyword-only, but for those with ``field(kw_only=False)``. The order is that of the class body, then that
    of the bases; a field of a base that the body names again keeps its place among the base's. A class with
    ``abstract=True`` has no function yet; it only declares fields for others.
    """

    function: ClassVar[Callable[..., Any]]
    """The plain function that the spec calls."""
    rule: ClassVar[Callable[..., Any] | None] = None
    """A second function whose keywords may be fields: the update rule of running statistics."""
    passed: ClassVar[tuple[str, ...]] = ()
    """Keywords of the function that a call passes. All others need a field."""

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not abstract:
            _make(cls)


@functools.cache
def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name, without the first one, which is the data."""
    return dict(list(inspect.signature(function).parameters.items())[1:])


def keywords_of(spec: Any, function: Callable[..., Any]) -> dict[str, Any]:
    """The fields of a spec that the function has as keywords."""
    names = parameters(function)
    return {field.name: getattr(spec, field.name) for field in dataclasses.fields(spec) if field.name in names}


def _make(cls: type[Spec]) -> None:
    """Turns a class into a dataclass, with the defaults and the texts of its function."""
    if not callable(getattr(cls, "function", None)):
        raise TypeError(
            f"{cls.__name__}: a spec needs its function, got {getattr(cls, 'function', None)!r}. Write function = "
            "staticmethod(...) into the class body, or abstract=True behind the bases of a class that others extend."
        )
    fields = _fields(cls)
    for name, (_, field) in fields.items():
        field.default = _resolve(cls, name, field.default)
    _check_complete(cls, fields)
    cls.__annotations__ = {**{name: kind for name, (kind, _) in fields.items()}, **inspect.get_annotations(cls)}
    for name, (_, field) in fields.items():
        setattr(cls, name, field)
    if vars(cls).get("__doc__"):
        cls.__doc__ = document(cls, tuple(fields), _functions(cls))
    dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def _fields(cls: type) -> dict[str, tuple[Any, Any]]:
    """Annotation and ``dataclasses.Field`` of each field, own and inherited, in their order."""
    if "__dataclass_fields__" in vars(cls):  # a spec that another one extends
        return {f.name: (f.type, _copy(f)) for f in dataclasses.fields(cls)}
    inherited: dict[str, tuple[Any, Any]] = {}
    for base in cls.__bases__:
        if issubclass(base, Spec):
            inherited |= {name: found for name, found in _fields(base).items() if name not in inherited}
    own = dict(_own_fields(cls))
    ordered: dict[str, tuple[Any, Any]] = {}
    for name, (annotation, field) in own.items():
        before = list(inherited)[: list(inherited).index(name)] if name in inherited else []
        ordered |= {other: inherited.pop(other) for other in before}
        if name in inherited and field.default is DEFAULT:
            field.default = inherited.pop(name)[1].default
        inherited.pop(name, None)
        ordered[name] = (annotation, field)
    return {**ordered, **inherited}


def _own_fields(cls: type) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name, annotation in inspect.get_annotations(cls).items():
        if ClassVar in (annotation, get_origin(annotation)):
            continue
        value = vars(cls).get(name, dataclasses.MISSING)
        written = isinstance(value, dataclasses.Field)
        yield name, (annotation, _copy(value) if written else dataclasses.field(default=value))


def _copy(field: Any) -> Any:
    """A field like this one; a dataclass writes into the fields that it is made of."""
    return dataclasses.field(default=field.default, default_factory=field.default_factory, kw_only=field.kw_only)


def _resolve(cls: type[Spec], name: str, default: Any) -> Any:
    """The default of a field: the written one, which the function must share; or the function's, or the rule's."""
    stated = [
        dataclasses.MISSING if keyword.default is keyword.empty else keyword.default
        for keyword in (parameters(function).get(name) for function in _functions(cls))
        if keyword is not None
    ]
    if default is DEFAULT:
        default = next(iter(stated), dataclasses.MISSING)
        if default is dataclasses.MISSING:
            raise TypeError(
                f"{cls.__name__}: {name} = DEFAULT, but {_name(cls)} has no keyword {name} with a default, and no base "
                "has such a field. Write the default, or correct the name."
            )
    elif name in parameters(cls.function) and (type(default) is not type(stated[0]) or default != stated[0]):
        field, keyword = (
            "no default" if one is dataclasses.MISSING else f"the default {one!r}" for one in (default, stated[0])
        )
        raise TypeError(
            f"{cls.__name__}: the field {name} has {field}, but the keyword {name} of {_name(cls)} has {keyword}. "
            f"Write {name} = DEFAULT, so that the default stands once."
        )
    return default


def _check_complete(cls: type[Spec], fields: Mapping[str, Any]) -> None:
    for name, parameter in parameters(cls.function).items():
        if parameter.kind is parameter.KEYWORD_ONLY and name not in fields and name not in cls.passed:
            raise TypeError(
                f"{cls.__name__}: {_name(cls)} has the keyword {name}, but the spec has no field of this name. Add "
                f"{name} = DEFAULT with its type, or add {name!r} to passed if it comes with a call."
            )


def _functions(cls: type[Spec]) -> list[Callable[..., Any]]:
    return [function for function in (cls.function, cls.rule) if function is not None]


def _name(cls: type[Spec]) -> str:
    return getattr(cls.function, "__name__", repr(cls.function))
