"""Answers arguments that a function or class does not take with the line to write, before Python refuses them.

Signatures stay what they are, for ``help``, for editors and for type checkers. A traced program contains nothing of it.
"""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


TOO_MANY = "*"
"""The entry of advice for arguments beyond those that go by position."""


@dataclasses.dataclass(frozen=True)
class Accepted:
    """What a function takes."""

    positional: tuple[str, ...]
    """The names of arguments that may go by position, without self."""
    keywords: Mapping[str, Any]
    """The defaults of those that go by keyword alone, by name."""

    @property
    def names(self) -> list[str]:
        """All names."""
        return [*self.positional, *self.keywords]


def answers_keywords(advice: Mapping[str, str]) -> Callable[[F], F]:
    """Decorates a function or method; ``advice`` holds a sentence for each keyword of another library."""

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        is_method = parameters[0].name == "self"
        accepted = _accepted(parameters[is_method:])
        most, known = is_method + len(accepted.positional), frozenset(accepted.names)

        @functools.wraps(function)
        def entrance(*args: Any, **kwargs: Any) -> Any:
            if len(args) > most:
                refuse_positions(caller(args), accepted, args[is_method:], advice)
            if not kwargs.keys() <= known:
                refuse_keyword(caller(args), kwargs, accepted.names, advice)
            return function(*args, **kwargs)

        def caller(args: Sequence[Any]) -> str:
            name = function.__qualname__.removesuffix(".__call__")
            return f"{type(args[0]).__name__}.{function.__name__}" if is_method and "." in name else name

        return cast(F, entrance)

    return decorate


class AnswersKeywords:
    """The same for the constructor of a class: a mixin."""

    keyword_advice: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        kind: Any = cls
        accepted = _of_constructor(kind)
        if accepted is not None:
            if len(args) > len(accepted.positional):
                refuse_positions(cls.__name__, accepted, args, cls.keyword_advice)
            if not kwargs.keys() <= {*accepted.names}:
                refuse_keyword(cls.__name__, kwargs, sorted(accepted.names), cls.keyword_advice)
        return super().__new__(cls)


@functools.cache
def _of_constructor(kind: type) -> Accepted | None:
    """What a constructor takes; None if it takes any keyword."""
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else _accepted(parameters)


def _accepted(parameters: Sequence[inspect.Parameter]) -> Accepted:
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return Accepted(
        tuple(p.name for p in parameters if p.kind in by_position),
        {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY},
    )


def refuse_positions(caller: str, accepted: Accepted, args: Sequence[Any], advice: Mapping[str, str]) -> NoReturn:
    """Raises TypeError for arguments beyond those that go by position, and says what to write."""
    line = advice.get(TOO_MANY) or _by_keyword(args[len(accepted.positional)], accepted)
    raise TypeError(
        f"{caller}: it takes {', '.join(accepted.positional)} by position, and got {len(args)} arguments. {line}"
    )


def refuse_keyword(caller: str, given: Iterable[str], known: Iterable[str], advice: Mapping[str, str]) -> NoReturn:
    """Raises TypeError for the first keyword that is not known, and says what to write."""
    known = [name for name in known if name not in ("self", "_")]
    name = next(name for name in given if name not in known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    line = advice.get(name) or (f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known)}.")
    raise TypeError(f"{caller}: there is no argument {name!r}. {line}")


def _by_keyword(value: Any, accepted: Accepted) -> str:
    """The line with the first keyword whose default is of the type of a value; else all keywords."""
    name = next((name for name, default in accepted.keywords.items() if type(default) is type(value)), None)
    if name is None or value is None:
        return f"Pass the others by name: {', '.join(accepted.keywords)}."
    shown = repr(value) if isinstance(value, bool | int | float | str) else "..."
    return f"Write {name}={shown}."
