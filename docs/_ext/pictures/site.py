"""The Sphinx extension: it draws every picture when a build begins, and the directive ``{picture} NAME`` shows one.

A picture is drawn for light and for dark pages; the theme shows the one that fits. It has its words from ``all.py``.
"""

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from pictures.all import PICTURES
from pictures.style import THEMES, drawn_for, svg

FOLDER = "_pictures"


class PictureDirective(SphinxDirective):
    """Shows a picture, or several side by side, each with its name or caption under it."""

    required_arguments = 1
    optional_arguments = len(PICTURES)
    option_spec: ClassVar = {"captions": lambda text: [caption.strip() for caption in text.split("|")]}

    def run(self) -> list[nodes.Node]:
        """Makes an image of each picture for each kind of page."""
        names = self.arguments
        captions = self.options.get("captions", names if len(names) > 1 else [""])
        unknown = [name for name in names if name not in PICTURES]
        if unknown:
            raise self.error(f"there is no picture {unknown[0]!r}, only {', '.join(PICTURES)}")
        if len(captions) != len(names):
            raise self.error(f"{len(names)} pictures need as many captions, not {len(captions)}")
        found = [_picture(name, caption) for name, caption in zip(names, captions, strict=True)]
        return [nodes.container("", *found, classes=["pictures"])] if len(found) > 1 else [*found]


def _picture(name: str, caption: str) -> nodes.container:
    shown: list[nodes.Node] = [
        nodes.image(uri=f"/{FOLDER}/{name}-{theme.name}.svg", alt=PICTURES[name].alt, classes=[f"only-{theme.name}"])
        for theme in THEMES
    ]
    if caption:
        shown.append(nodes.paragraph("", "", nodes.literal(caption, caption)))
    return nodes.container("", *shown, classes=["picture"])


def write(app: Any, config: Any) -> None:
    """Draws, and writes what changed; takes away pictures that are gone."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(exist_ok=True)
    written = set()
    for theme in THEMES:
        for name, picture in PICTURES.items():
            with drawn_for(theme):
                content = svg(picture.draw(theme))
            file = folder / f"{name}-{theme.name}.svg"
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)
            written.add(file)
    for file in set(folder.glob("*.svg")) - written:
        file.unlink()


def setup(app: Any) -> dict[str, Any]:
    """Draws before Sphinx looks for pages."""
    app.add_directive("picture", PictureDirective)
    app.connect("config-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
