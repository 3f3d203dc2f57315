"""The role ``{line}`` of the documentation: the text ``file: text`` is shown as ``file:number``, a link to that line.

A build fails when no line of that file contains the text, or more than one does, so the pages cannot go stale. The
files that are named become pages of the site, with a number at each line.
"""

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from source_line import PACKAGE, locate
from sphinx.util.docutils import SphinxRole


class LineRole(SphinxRole):
    """Makes the link; where it leads is known when its page is written."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Renders the role."""
        try:
            shown = locate(self.text)
        except (LookupError, OSError) as error:
            message = self.inliner.reporter.error(str(error), line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        return [nodes.reference("", "", nodes.literal(self.rawtext, shown), source_line=shown, internal=True)], []


def page_of(file: str) -> str:
    """The name of the page of a source file."""
    return f"_source/{file.removesuffix('.py')}"


def _links(document: nodes.document) -> Iterator[tuple[nodes.reference, str, str]]:
    for node in document.findall(nodes.reference):
        if "source_line" in node:
            file, _, number = node["source_line"].partition(":")
            yield node, file, number


def collect(app: Any, document: nodes.document) -> None:
    """Notes which files a page names."""
    files = {file for _, file, _ in _links(document)}
    app.env.metadata[app.env.docname]["source_files"] = " ".join(sorted(files))


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
    app.connect("doctree-read", collect)
    app.connect("doctree-resolved", resolve)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
