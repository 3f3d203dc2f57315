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
SIZE = "*int"
"""The same, for a whole number: in other libraries it is often a number of features."""
MISSING = "?"
"""The entry of advice for arguments that are left out; without it, Python says which they are."""


def same(sentence: str, *names: str) -> dict[str, str]:
    """The entries of advice for names that are answered alike."""
    return dict.fromkeys(names, sentence)


@dataclasses.dataclass(frozen=True)
class Accepted:
    """What a function takes."""

    positional: tuple[str, ...]
    """The names of arguments that may go by position, without self."""
    keywords: Mapping[str, Any]
    """The defaults of those that go by keyword alone, by name."""
    needed: tuple[str, ...]
    """The names of those without a default."""
    any_position: bool
    any_keyword: bool
    """Whether there is a place for more, by position (``*args``) and by keyword (``**options``)."""

    @functools.cached_property
    def names(self) -> list[str]:
        """All names."""
        return [*self.positional, *self.keywords]

    def refused(self, args: Sequence[Any], kwargs: Mapping[str, Any], advice: Mapping[str, str]) -> str | None:
        """What a call has that it should not, or lacks, and the line to write; None if Python has nothing to refuse."""
        for name in kwargs:
            if name not in self.names and (name in advice or not self.any_keyword):
                return _unknown(name, self.names, advice)
        if len(args) > len(self.positional) and not self.any_position:
            extra = args[len(self.positional)]
            line = advice.get(SIZE) if type(extra) is int else None
            return (
                f"it takes {', '.join(self.positional) or 'nothing'} by position, and got {len(args)} "
                f"argument{'s' * (len(args) > 1)}. {line or advice.get(TOO_MANY) or self._by_keyword(extra)}"
            )
        if MISSING in advice:
            missing = [name for name in self.needed if name not in {*self.positional[: len(args)], *kwargs}]
            return f"it needs {' and '.join(missing)}. {advice[MISSING]}" if missing else None
        return None

    def _by_keyword(self, value: Any) -> str:
        """The line with the only keyword whose default is of the type of a value; else all keywords."""
        alike = [name for name, default in self.keywords.items() if type(default) is type(value)]
        if len(alike) != 1 or value is None:
            return f"Pass the others by name: {', '.join(self.keywords)}."
        shown = repr(value) if isinstance(value, bool | int | float | str) else "..."
        return f"Write {alike[0]}={shown}."


def answers_keywords(advice: Mapping[str, str]) -> Callable[[F], F]:
    """Decorates a function or method; ``advice`` holds a sentence for each keyword of another library.

    A function with ``**options`` takes all keywords but those that ``advice`` has.
    """

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        is_method = parameters[0].name == "self"
        accepted = _accepted(parameters[is_method:])

        @functools.wraps(function)
        def entrance(*args: Any, **kwargs: Any) -> Any:
            if line := accepted.refused(args[is_method:], kwargs, advice):
                raise TypeError(f"{caller(args)}: {line}")
            return function(*args, **kwargs)

        def caller(args: Sequence[Any]) -> str:
            name = function.__name__
            if not (is_method and args):
                return name
            kind = type(args[0]).__name__
            return kind if name in ("__call__", "__init__") else f"{kind}.{name}"

        return cast(F, entrance)

    return decorate


class AnswersKeywords:
    """The same for the constructor of a class: a mixin."""

    keyword_advice: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        kind: Any = cls
        if line := _of_constructor(kind).refused(args, kwargs, cls.keyword_advice):
            raise TypeError(f"{cls.__name__}: {line}")
        return super().__new__(cls)


@functools.cache
def _of_constructor(kind: type) -> Accepted:
    """What a constructor takes."""
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return _accepted(parameters)


def _accepted(parameters: Sequence[inspect.Parameter]) -> Accepted:
    kinds = {p.kind for p in parameters}
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return Accepted(
        tuple(p.name for p in by_position),
        {p.name: p.default for p in by_keyword},
        tuple(p.name for p in (*by_position, *by_keyword) if p.default is p.empty),
        inspect.Parameter.VAR_POSITIONAL in kinds,
        inspect.Parameter.VAR_KEYWORD in kinds,
    )


def refuse_keyword(caller: str, given: Iterable[str], known: Iterable[str], advice: Mapping[str, str]) -> NoReturn:
    """Raises TypeError for the first keyword that is not known, and says what to write."""
    known = [name for name in known if name != "self"]
    raise TypeError(f"{caller}: {_unknown(next(name for name in given if name not in known), known, advice)}")


def _unknown(name: str, known: Sequence[str], advice: Mapping[str, str]) -> str:
    known = [other for other in known if other != "_"]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    line = advice.get(name) or (f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known)}.")
    return f"there is no argument {name!r}. {line}"
