"""Signatures as users write them, in place of what Python shows of a class that answers wrong keywords.

Constructors show their arguments; unions behind an alias of ``jaxnorm._base.typing`` have the name of the alias.
"""

import inspect
import re
from typing import Any

from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

from jaxnorm._base import typing as aliases

HIDDEN = ("self", "parent")
"""Flax adds ``parent`` to the constructors of its modules, for itself."""
ALIASES = ("PRNGKeyArray", "DTypeLike", "Axis", "Initializer")
MODES = ("smart", "fully-qualified-except-typing", "fully-qualified")
ARRAY = re.compile(r"~?(?:jax\.)?jaxlib\._jax\.Array")
LETTER = re.compile(r"^(\s*(?::\w+ \w+: )?)([A-Za-z]\.(?:\s|$))")
"""At the start of a paragraph: ``H.``, or the initial of an author."""
QUALIFIED = re.compile(r"(?<![\w.~'])((?:jaxnorm|flax|jax|numpy)\.[\w.]+)")
PRIVATE = re.compile(r"(?<![\w.])(~?)(?:collections\.abc|jax\._src\.typing|typing)\.(?=[A-Z])")


def _spellings() -> dict[str, str]:
    """What Sphinx writes for each alias, longest first."""
    found = {}
    for name in ALIASES:
        for mode in MODES:
            found[short(stringify_annotation(getattr(aliases, name), mode), {})] = name
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def short(text: str, spellings: dict[str, str]) -> str:
    """A text of types with the public names of arrays and of aliases."""
    text = ARRAY.sub("Array", text).replace("jax.Array", "Array").replace("~Array", "Array")
    text = PRIVATE.sub(r"\1", text)
    for spelling, name in spellings.items():
        text = text.replace(spelling, name)
    return text


SPELLINGS = _spellings()


class Named:
    """A default that is shown by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _named(parameter: inspect.Parameter) -> inspect.Parameter:
    default = parameter.default
    if default is parameter.empty or not repr(default).startswith("<"):
        return parameter
    return parameter.replace(default=Named(getattr(default, "__name__", "...")))


def constructor(kind: type) -> inspect.Signature:
    """The arguments of a class as its constructor has them; functions and types among the defaults by their names."""
    signature = inspect.signature(kind.__init__)  # type: ignore[misc]
    shown = [_named(p) for name, p in signature.parameters.items() if name not in HIDDEN]
    return signature.replace(parameters=shown, return_annotation=inspect.Signature.empty)


def on_signature(
    app: Any, what: str, name: str, item: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Shows the arguments of a constructor, and short types everywhere."""
    protocol = getattr(item, "_is_protocol", False)
    if what == "class" and not protocol and signature and any(sign in signature for sign in ("*args", "parent:", "<")):
        signature = stringify_signature(constructor(item), unqualified_typehints=True)
    return tuple(short(text, SPELLINGS) if text else text for text in (signature, returned))  # type: ignore[return-value]


def before_napoleon(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Keeps the first sentence of an attribute whole: napoleon takes what stands before a colon for a type."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def after_napoleon(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Shortens the types of attributes, which napoleon wrote; keeps a single letter from beginning a list."""
    for index, line in enumerate(lines):
        if line.lstrip().startswith((":vartype", ":type", ":rtype")):
            lines[index] = QUALIFIED.sub(r"~\1", short(line, SPELLINGS))
        lines[index] = LETTER.sub(r"\1\\\2", lines[index])


def setup(app: Any) -> dict[str, Any]:
    """Listens to autodoc."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-process-docstring", before_napoleon, priority=100)
    app.connect("autodoc-process-docstring", after_napoleon, priority=900)
    return {"parallel_read_safe": True}
