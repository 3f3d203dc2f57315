"""Links for public names: those in tables, and the directive ``names``, which lists a namespace.

A name in a table becomes a link where it stands alone as code, and a call of it in a column for this library. A name
without an entry in the reference makes the build fail.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

SPACES = ("", "zoo", "weight_norms", "initializers", "linen", "nnx", "optim", "analysis", "convert")
BARE = SPACES[:4]
"""Where a name without its namespace is looked for, the nearest first."""
METHODS = {"step", "stack", "update_running"}
"""Also names of methods and of arguments: in a table they stay without a link."""
HELPERS = {"blocks", "check_gates_initializer", "vector"}
"""Of cells, beside the initializers."""
OURS = {"here", "spec", "name", "preset", "in jaxnorm"}
"""The headings of columns whose calls are of this library."""
CALL = re.compile(r"(?:jn\.|jaxnorm\.)?([\w.]+)(\(.*\))?")


def module(space: str) -> Any:
    """The module of a namespace."""
    inner = {"initializers": "cells.initializers"}.get(space, space)
    return importlib.import_module(f"jaxnorm.{inner}" if space else "jaxnorm")


def names(space: str) -> list[str]:
    """The public names of a namespace: functions, classes, and converters, each of which is a module."""
    found = module(space)
    late = getattr(found, "_WITH_OPTAX", ())
    listed = getattr(found, "__all__", None) or {name for name in (*vars(found), *late) if not name.startswith("_")}
    items = ((name, getattr(found, name)) for name in {*listed} - HELPERS)
    return sorted((name for name, item in items if _is_entry(space, item)), key=lambda name: (name.lower(), name))


def _is_entry(space: str, item: Any) -> bool:
    if inspect.ismodule(item):
        return space == "convert" and hasattr(item, "load")
    home = getattr(item, "__module__", "")
    if space in ("initializers", "optim", "analysis", "convert"):
        return home.startswith(module(space).__name__) and callable(item)
    return home.startswith("jaxnorm")


def targets() -> dict[str, str]:
    """What may stand in a table, and the full name of its entry."""
    found: dict[str, str] = {}
    for space in SPACES:
        for name in names(space):
            path = f"{space}.{name}" if space else name
            found[path] = f"jaxnorm.{path}"
            if space in BARE:
                found.setdefault(name, f"jaxnorm.{path}")
    return {name: target for name, target in found.items() if name not in METHODS}


class LinkNames(SphinxTransform):
    """Links names in tables."""

    default_priority = 700

    def apply(self, **kwargs: Any) -> None:
        """Puts a reference around each name."""
        known = targets()
        for literal, heading in _literals(self.document):
            match = CALL.fullmatch(literal.astext())
            if match is None or match[1] not in known or (match[2] and heading not in OURS):
                continue
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=known[match[1]], refexplicit=True, refwarn=True,
                refdoc=self.env.docname,
            )  # fmt: skip
            literal.replace_self(link)
            link += literal


def _literals(document: nodes.document) -> Iterator[tuple[nodes.literal, str]]:
    """Code in the cells of tables that is in no link yet, and the heading of its column."""
    for table in document.findall(nodes.table):
        headings = [entry.astext() for head in table.findall(nodes.thead) for entry in head.findall(nodes.entry)]
        for body in table.findall(nodes.tbody):
            for row in body.findall(nodes.row):
                for index, entry in enumerate(row.children):
                    heading = headings[index] if index < len(headings) else ""
                    for literal in list(entry.findall(nodes.literal)):
                        if not isinstance(literal.parent, nodes.reference | addnodes.pending_xref):
                            yield literal, heading


class Names(SphinxDirective):
    """``.. names:: zoo`` lists a namespace in a table of names and first sentences; without a word, the core."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Writes a table and reads it."""
        space = self.arguments[0] if self.arguments else ""
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 70", "", "   * - name", "     - what it is"]
        for name in names(space):
            path = ".".join(filter(None, ("jaxnorm", space, name)))
            sentence = (inspect.getdoc(getattr(module(space), name)) or "").partition("\n")[0]
            lines += [f"   * - :py:obj:`{name} <{path}>`", f"     - {sentence}"]
        parent = nodes.Element()
        parent.document = self.state.document
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, parent)
        return parent.children


def setup(app: Any) -> dict[str, Any]:
    """Registers the transform and the directive."""
    app.add_transform(LinkNames)
    app.add_directive("names", Names)
    return {"parallel_read_safe": True}
