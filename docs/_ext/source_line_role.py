"""The role ``{line}`` of the documentation: the text ``file: text`` is shown as ``file:number``.

A build fails when no line of that file contains the text, or more than one does, so the pages cannot go stale.
"""

from typing import Any

from docutils import nodes
from source_line import locate


def line_role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """Renders the role."""
    try:
        return [nodes.literal(rawtext, locate(text))], []
    except (LookupError, OSError) as error:
        message = inliner.reporter.error(str(error), line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]


def setup(app: Any) -> dict[str, Any]:
    """Registers the role with Sphinx."""
    app.add_role("line", line_role)
    return {"parallel_read_safe": True}
