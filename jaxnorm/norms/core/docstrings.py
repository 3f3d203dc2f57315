"""The documentation of a spec's fields, gathered from where it stands once: the function, and the bases."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

_HEADER = re.compile(r"^[A-Z]\w+:$")
_ENTRY = re.compile(r"^  (\w+): ")


def document(cls: type, names: Sequence[str], functions: Sequence[Callable[..., Any]]) -> str:
    """Returns the docstring of a class with an entry for each field, under ``Attributes:``.

    The text of a field comes from the class's own docstring, or from the arguments of a function, or from a base.
    """
    own = inspect.cleandoc(cls.__doc__ or "")
    texts: dict[str, str] = {}
    for source, section in (
        *((base, "Attributes:") for base in reversed(cls.__mro__[1:])),
        *((function, "Args:") for function in reversed(functions)),
        (cls, "Attributes:"),
    ):
        texts |= entries(inspect.cleandoc(source.__doc__ or ""), section)
    found = [texts[name] for name in names if name in texts]
    if not found:
        return own
    before, after = _around(own)
    return "\n".join([*before, "Attributes:", *found, "", *after]).rstrip() + "\n"


def entries(doc: str, section: str) -> dict[str, str]:
    """The entries of a section of a docstring: the lines of each, by its name."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in doc.splitlines():
        if line and not line.startswith(" "):
            inside = line == section
        elif inside and line:
            start = _ENTRY.match(line)
            name = start.group(1) if start else name
            found[name] = line if start else f"{found[name]}\n{line}"
    return found


def _around(doc: str) -> tuple[list[str], list[str]]:
    """The lines before and after the place of the fields: the old section, or before the first other section."""
    lines = doc.splitlines()
    headers = [i for i, line in enumerate(lines) if _HEADER.match(line)]
    if not headers:
        return [*lines, ""], []
    if lines[headers[0]] != "Attributes:":
        return lines[: headers[0]], lines[headers[0] :]
    end = headers[1] if len(headers) > 1 else len(lines)
    return lines[: headers[0]], lines[end:]
