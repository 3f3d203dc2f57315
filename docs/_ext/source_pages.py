"""Pages of the source files, and links to their lines: from the role ``{line}``, and from each entry of the reference.

The role shows the text ``file: text`` as ``file:number``. A build fails when no line of that file contains the text, or
more than one does, so the pages cannot go stale.
"""

import functools
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from source_line import PACKAGE, locate
from sphinx import addnodes
from sphinx.util.docutils import SphinxRole

import jaxnorm


class LineRole(SphinxRole):
    """Makes the link; where it leads is known when its page is written."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Renders the role."""
        try:
            shown = locate(self.text)
        except (LookupError, OSError) as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        return [_link(shown, nodes.literal(self.rawtext, shown))], []


def _link(line: str, shown: nodes.Node) -> nodes.reference:
    return nodes.reference("", "", shown, source_line=line, internal=True)


def line_of(name: str) -> str | None:
    """``file:number`` of a documented item, by its full name; None for what has no lines, such as a field."""
    try:
        item: Any = functools.reduce(getattr, name.split(".")[1:], jaxnorm)
        item = inspect.unwrap(item.fget if isinstance(item, property) else item)
        file, number = inspect.getsourcefile(item), inspect.getsourcelines(item)[1]
    except (AttributeError, TypeError):
        return None
    inside = file is not None and Path(file).is_relative_to(PACKAGE)
    return f"{Path(file).relative_to(PACKAGE).as_posix()}:{max(number, 1)}" if file and inside else None


def add_links(app: Any, document: nodes.document) -> None:
    """Puts a link behind each signature, and notes which files a page names."""
    for signature in document.findall(addnodes.desc_signature):
        line = line_of(f"{signature['module']}.{signature['fullname']}") if signature.get("module") else None
        if line:
            signature += _link(line, nodes.inline("", "[source]", classes=["viewcode-link"]))
    files = {file for _, file, _ in _links(document)}
    for file in files:  # a page leads to lines, which move when its source changes
        app.env.note_dependency(str(PACKAGE / file))
    app.env.metadata[app.env.docname]["source_files"] = " ".join(sorted(files))


def page_of(file: str) -> str:
    """The name of the page of a source file."""
    return f"_source/{file.removesuffix('.py')}"


def _links(document: nodes.document) -> Iterator[tuple[nodes.reference, str, str]]:
    for node in document.findall(nodes.reference):
        if "source_line" in node:
            file, _, number = node["source_line"].partition(":")
            yield node, file, number


def resolve(app: Any, document: nodes.document, name: str) -> None:
    """Points the links at the pages of the sources."""
    for node, file, number in _links(document):
        if app.builder.format == "html":
            node["refuri"] = f"{app.builder.get_relative_uri(name, page_of(file))}#line-{number}"
        else:
            node.replace_self(node.children)


def pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Writes a page for each file that is named somewhere."""
    files = {file for known in app.env.metadata.values() for file in known.get("source_files", "").split()}
    formatter = HtmlFormatter(linenos="inline", lineanchors="line", anchorlinenos=True, wrapcode=True)
    for file in sorted(files):
        code = highlight((PACKAGE / file).read_text(encoding="utf-8"), PythonLexer(), formatter)
        title = f"jaxnorm/{file}"
        yield page_of(file), {"title": title, "body": f"<h1>{title}</h1>{code}"}, "page.html"


def setup(app: Any) -> dict[str, Any]:
    """Registers the role with Sphinx."""
    app.add_role("line", LineRole())
    app.connect("doctree-read", add_links)
    app.connect("doctree-resolved", resolve)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
