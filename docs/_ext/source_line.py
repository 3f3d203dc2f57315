"""The role ``{line}`` of the documentation: where in the sources an equation is computed.

The text of the role is ``file: text``, the file below ``jaxnorm/``; it is shown as ``file:number`` of the one line
that contains the text. A build fails when there is no such line, or more than one, so the pages cannot go stale.
"""

from pathlib import Path
from typing import Any

from docutils import nodes

PACKAGE = Path(__file__).parents[2] / "jaxnorm"


def locate(target: str) -> str:
    """``file:number`` of the one line that a ``file: text`` points at."""
    file, _, text = target.partition(": ")
    lines = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
    numbers = [number for number, line in enumerate(lines, start=1) if text in line]
    if len(numbers) != 1:
        raise LookupError(f"{target!r}: {len(numbers)} lines of {file} contain that text, expected one.")
    return f"{file}:{numbers[0]}"


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
