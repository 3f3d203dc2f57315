"""Answers arguments that a function or class does not have with the line to write, before Python refuses them.

Signatures stay what they are, for ``help``, for editors and for type checkers. A traced program contains nothing of it.
Besides keywords, a table of advice may have a sentence for arguments without a name (``UNNAMED``) that are too many,
and for calls that leave an argument out (``MISSING``); without one, Python's own message stays.
"""

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


UNNAMED, MISSING = "*", "missing"


def answers_keywords(advice: Mapping[str, str]) -> Callable[[F], F]:
    """Decorates a function or method; ``advice`` holds a sentence for each keyword of another library.

    A function with ``**options`` takes all keywords but those that ``advice`` has.
    """

    def decorate(function: F) -> F:
        call = _Call.of(inspect.signature(function).parameters)
        name = function.__qualname__
        method = name.endswith((".__call__", ".__init__"))

        @functools.wraps(function)
        def entrance(*args: Any, **kwargs: Any) -> Any:
            if not kwargs.keys() <= call.known or not call.required <= len(args) <= call.places:
                caller = type(args[0]).__name__ if method and args else name
                call.refuse(caller, args[method:], kwargs, advice)
            return function(*args, **kwargs)

        return cast(F, entrance)

    return decorate


class _Call(NamedTuple):
    """What a call of a function may hold."""

    known: Set[str]
    unnamed: tuple[str, ...]
    """The parameters that go without a name; ``places`` counts them, with ``self``."""
    needed: tuple[str, ...]
    """Those of them without a default; ``required`` counts them, with ``self``."""
    any_keyword: bool
    places: float
    required: int

    @classmethod
    def of(cls, parameters: Mapping[str, inspect.Parameter]) -> "_Call":
        kinds = [p.kind for p in parameters.values()]
        positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        needed = [p.name for p in positional if p.default is p.empty]
        return cls(
            parameters.keys(),
            tuple(p.name for p in positional if p.name != "self"),
            tuple(name for name in needed if name != "self"),
            inspect.Parameter.VAR_KEYWORD in kinds,
            math.inf if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional),
            len(needed),
        )

    def refuse(self, caller: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], advice: Mapping[str, str]) -> None:
        """Raises TypeError for what the function does not take, if there is a word to say about it."""
        foreign = [name for name in kwargs if name not in self.known and (not self.any_keyword or name in advice)]
        if foreign:
            refuse_keyword(caller, foreign, self.known, advice)
        if len(args) > len(self.unnamed) and UNNAMED in advice:
            raise TypeError(
                f"{caller}: got {len(args)} arguments without a name, but only {', '.join(self.unnamed)} may go "
                f"without one. {advice[UNNAMED]}"
            )
        missing = [name for name in self.needed[len(args) :] if name not in kwargs]
        if missing and MISSING in advice:
            raise TypeError(f"{caller}: {' and '.join(missing)} missing. {advice[MISSING]}")


class AnswersKeywords:
    """The same for the constructor of a class: a mixin."""

    keyword_advice: ClassVar[Mapping[str, str]] = {}

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        call = _constructor(cls)
        if not kwargs.keys() <= call.known or len(args) >= call.places:
            call.refuse(cls.__name__, args, kwargs, cls.keyword_advice)
        return super().__new__(cls)


@functools.cache
def _constructor(kind: Any) -> _Call:
    parameters = inspect.signature(kind.__init__).parameters
    return _Call.of(parameters)._replace(known=dict.fromkeys(sorted(parameters)).keys())


def refuse_keyword(caller: str, given: Iterable[str], known: Iterable[str], advice: Mapping[str, str]) -> NoReturn:
    """Raises TypeError for the first keyword that is not known, and says what to write."""
    known = [name for name in known if name not in ("self", "_")]
    name = next(name for name in given if name not in known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    line = advice.get(name) or (f"Did you mean {near[0]}?" if near else f"It takes {', '.join(known)}.")
    raise TypeError(f"{caller}: there is no argument {name!r}. {line}")
