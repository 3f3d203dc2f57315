"""Formulas without a network: the copy of MathJax that a Python package carries goes into the site.

The file that draws formulas as SVG needs no fonts and loads no other file.
"""

from importlib.metadata import files
from pathlib import Path
from typing import Any

from sphinx.errors import ExtensionError
from sphinx.util.osutil import copyfile

PACKAGE, NAME = "sphinx-mathjax-offline", "tex-svg.js"
PLACE = f"mathjax/{NAME}"


def bundled() -> Path:
    """Where the package has the file."""
    found = [file for file in files(PACKAGE) or () if file.match(f"mathjax/{NAME}")]
    if len(found) != 1:
        raise ExtensionError(f"{PACKAGE} has {len(found)} files {NAME}, expected one: install jaxnorm[docs].")
    return Path(found[0].locate())  # type: ignore[arg-type]


def copy(app: Any, error: Exception | None) -> None:
    """Copies the file beside the built pages."""
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / PLACE
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(bundled(), target, force=True)


def setup(app: Any) -> dict[str, Any]:
    """Takes the place of the address that Sphinx knows."""
    app.setup_extension("sphinx.ext.mathjax")
    app.config.mathjax_path = PLACE
    app.config.mathjax3_config = {"options": {"enableMenu": False}}  # its menu offers pages of other hosts
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
