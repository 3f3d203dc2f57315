"""Answers keywords that a function or class does not have with the one to write, before Python refuses them.

Signatures stay what they are, for ``help``, for editors and for type checkers. A traced program contains nothing of it.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def answers_keywords(advice: Mapping[str, str]) -> Callable[[F], F]:
    """Decorates a function or method; ``advice`` holds a sentence for each keyword of another library."""

    def decorate(function: F) -> F:
        known = inspect.signature(function).parameters.keys()
        caller = function.__qualname__.removesuffix(".__call__")

        @functools.wraps(function)
        def entrance(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= known:
                refuse_keyword(caller, kwargs, known, advice)
            return function(*args, **kwargs)

        return cast(F, entrance)

    return decorate


class AnswersKeywords:
    """The same for the constructor of a class: a mixin."""

    keyword_advice: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        kind: Any = cls
        known = _parameters(kind)
        if known is not None and not kwargs.keys() <= known:
            refuse_keyword(cls.__name__, kwargs, sorted(known), cls.keyword_advice)
        return super().__new__(cls)


@functools.cache
def _parameters(kind: type) -> frozenset[str] | None:
    """The parameters of a constructor; None if it takes any keyword."""
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else frozenset(p.name for p in parameters)


def refuse_keyword(caller: str, given: Iterable[str], known: Iterable[str], advice: Mapping[str, str]) -> NoReturn:
    """Raises TypeError for the first keyword that is not known, and says what to write."""
    known = [name for name in known if name not in ("self", "_")]
    name = next(name for name in given if name not in known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    line = advice.get(name) or (f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known)}.")
    raise TypeError(f"{caller}: there is no argument {name!r}. {line}")
