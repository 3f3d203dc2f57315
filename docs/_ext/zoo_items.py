"""The directive ``zoo``: entries for all public items of a part of the zoo, so that a new one needs no line in a page.

``.. zoo:: functions jaxnorm.zoo.norms.batch`` describes the plain functions of that package, ``specs`` its specs with
their members, ``types`` its weights, carries and statistics.
"""

import dataclasses
import inspect
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from jaxnorm import zoo


def kind_of(item: Any) -> str:
    """The word for an item in the directive."""
    if inspect.isfunction(item):
        return "functions"
    return "specs" if dataclasses.is_dataclass(item) else "types"


def names(kind: str, *packages: str) -> list[str]:
    """The public names of a kind, in the order of their modules and of their lines."""
    prefixes = tuple(f"{package}." for package in packages)
    items = ((name, getattr(zoo, name)) for name in zoo.__all__)
    found = [(name, item) for name, item in items if item.__module__.startswith(prefixes) and kind_of(item) == kind]
    return [name for name, _ in sorted(found, key=lambda pair: (pair[1].__module__, inspect.getsourcelines(pair[1])))]


class Zoo(SphinxDirective):
    """Describes each item with autodoc."""

    required_arguments = 2
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Writes the directives of autodoc and reads them."""
        kind, *packages = " ".join(self.arguments).split()
        found = names(kind, *packages)
        if not found:
            raise self.error(f"zoo: no public {kind!r} in {', '.join(packages)}.")
        lines: list[str] = []
        for name in found:
            lines += [f".. {'autofunction' if kind == 'functions' else 'autoclass'}:: jaxnorm.zoo.{name}"]
            lines += ["   :members:", ""] if kind == "specs" else [""]
        parent = nodes.Element()
        parent.document = self.state.document
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, parent)
        return parent.children


def setup(app: Any) -> dict[str, Any]:
    """Registers the directive with Sphinx."""
    app.add_directive("zoo", Zoo)
    return {"parallel_read_safe": True}
