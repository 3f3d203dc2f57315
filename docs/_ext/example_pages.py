"""A page for each program in ``examples/``: its docstring, the program, and the modules beside it that it imports.

The pages are written into ``docs/examples`` when a build begins, so a new program has its page without further work.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "examples"
HEAD = """# Examples

Complete programs, which the tests run. Each has its code on its page, and says in its first lines how to start it.

"""


def programs(folder: Path = PROGRAMS) -> list[Path]:
    """The files of a folder that run by themselves."""
    return [path for path in sorted(folder.glob("*.py")) if '__name__ == "__main__"' in path.read_text("utf-8")]


def sentence_and_text(path: Path) -> tuple[str, str]:
    """The first sentence of a program's docstring, and the rest in Markdown, with indented lines as commands."""
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")), clean=False) or ""
    title, _, rest = doc.strip().partition("\n\n")
    return " ".join(title.split()).rstrip("."), "\n\n".join(_blocks(rest))


def _blocks(text: str) -> Iterator[str]:
    for block in text.split("\n\n"):
        indented = block.startswith("    ")
        yield f"```sh\n{textwrap.dedent(block)}\n```" if indented else block


def neighbors(path: Path) -> list[Path]:
    """The modules beside a program that it imports, in the order of their names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        files = (path.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names if name)
        found |= {file for file in files if file.exists()}
    return sorted(found)


def page(path: Path) -> str:
    """The page of a program, in Markdown."""
    sentence, text = sentence_and_text(path)
    lines = [
        f"# {path.name}",
        "",
        sentence if sentence.endswith("?") else f"{sentence}.",
        "",
        text,
        "",
        f"{{download}}`{path.name} <{_relative(path)}>`",
        "",
        *_code(path),
    ]
    for other in neighbors(path):
        lines += ["", f"## {other.relative_to(path.parent)}", "", *_code(other)]
    return "\n".join(lines) + "\n"


def _relative(path: Path) -> str:
    return f"../../{path.relative_to(ROOT).as_posix()}"


def _code(path: Path) -> list[str]:
    return [f"```{{literalinclude}} {_relative(path)}", ":language: python", "```"]


def index(paths: list[Path]) -> str:
    """The page that lists the programs."""
    rows = [f"| [{path.name}]({path.stem}.md) | {sentence_and_text(path)[0]} |" for path in paths]
    tree = ["```{toctree}", ":hidden:", "", *(path.stem for path in paths), "```"]
    return HEAD + "\n".join(["| program | what it does |", "|---|---|", *rows, "", *tree]) + "\n"


def write(app: Any, config: Any) -> None:
    """Writes the pages that changed, and takes away those of programs that are gone."""
    folder = Path(app.srcdir) / "examples"
    folder.mkdir(exist_ok=True)
    paths = programs()
    pages = {folder / f"{path.stem}.md": page(path) for path in paths} | {folder / "index.md": index(paths)}
    for file, text in pages.items():
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, encoding="utf-8")
    for file in set(folder.glob("*.md")) - set(pages):
        file.unlink()


def setup(app: Any) -> dict[str, Any]:
    """Writes before Sphinx looks for pages."""
    app.connect("config-inited", write)
    return {"parallel_read_safe": True}
