"""Guides: the pages of ``docs/guides`` are programs. They run when the site is built, and each is there as a notebook.

Numbers on such a page come from the package, so all guides run again when a file of it has changed.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes

FOLDER = "guides"
PACKAGE = Path(__file__).parents[2] / "jaxnorm"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)([^)#\s]*)(?:#[^)\s]*)?\)")
KERNEL = """
c.IPKernelApp.log_level = "ERROR"  # each kernel warns of what others on this machine could listen to
c.InlineBackend.figure_formats = {"svg"}
c.HistoryManager.enabled = False
"""
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r"\{[\w:]+\}`(?:[^`<]*<)?~?([^`>]*)>?`")


def is_guide(name: str) -> bool:
    """Whether a page is a guide, by its name without a suffix."""
    return name.startswith(f"{FOLDER}/")


def digest(package: Path = PACKAGE) -> str:
    """A number for all files of the package."""
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def outdated(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """All guides, if the package is not what they ran with."""
    before, env.guides_ran_with = getattr(env, "guides_ran_with", None), digest()
    return [] if before == env.guides_ran_with else sorted(filter(is_guide, env.found_docs))


def plain(text: str, title: Callable[[str], str]) -> str:
    """Markdown for notebooks: links inside of the site become their words, or titles, and roles become code."""

    def words(part: str) -> str:
        return ROLE.sub(r"`\1`", LINK.sub(lambda match: match[1] or f"“{title(match[2])}”", part))

    parts = FENCED.split(text)
    parts[::2] = map(words, parts[::2])  # what stands between is code
    return "".join(parts)


def add_link(app: Any, document: nodes.document) -> None:
    """Puts a link to the notebook below the title of a guide."""
    name = app.env.docname
    if is_guide(name) and app.builder.format == "html":
        link = nodes.reference("", "Download this page as a notebook", refuri=f"{Path(name).name}.ipynb", internal=True)
        title = next(document.findall(nodes.title))
        title.parent.insert(title.parent.index(title) + 1, nodes.paragraph("", "", link, classes=["notebook-link"]))


def write_notebooks(app: Any, error: Exception | None) -> None:
    """Writes each guide as a notebook beside its page."""
    if error is not None or app.builder.format != "html":
        return
    import nbformat
    from myst_nb.core.read import read_myst_markdown_notebook

    for name in filter(is_guide, sorted(app.env.found_docs)):
        page = Path(app.srcdir) / f"{name}.md"

        def title(target: str, page: Path = page) -> str:
            path = (page.parent / target).resolve().relative_to(Path(app.srcdir).resolve())
            return str(app.env.titles[path.with_suffix("").as_posix()].astext())

        notebook = read_myst_markdown_notebook(page.read_text("utf-8"))
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # by default they are drawn, and each build would write other files
            if cell["cell_type"] == "markdown":
                cell["source"] = plain(cell["source"], title)
        notebook["metadata"] = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        target = Path(app.outdir) / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def prepare(app: Any, config: Any) -> None:
    """Gives kernels settings of their own, not those of the user."""
    from nbclient import NotebookClient

    NotebookClient.startup_timeout.default_value = 600  # on a busy machine a minute is not enough
    folder = Path(app.doctreedir) / "ipython"
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(KERNEL, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


def setup(app: Any) -> dict[str, Any]:
    """Registers all of it with Sphinx."""
    app.connect("config-inited", prepare)
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", add_link)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
