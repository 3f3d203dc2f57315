"""Colors of the pictures, for light and for dark pages, and how a picture becomes SVG."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure


class Theme(NamedTuple):
    """The colors of one kind of page; the background of a picture is transparent."""

    name: str
    ink: str
    muted: str
    band: str
    """Behind what is computed for all steps at once."""
    kernel: tuple[str, str]
    """Fill and edge."""
    function: tuple[str, str]
    site: tuple[str, str]
    filled: tuple[str, str]
    """A site with a normalizer: fill, and the color of the text in it."""
    series: tuple[str, ...]
    """Four colors that stay apart for color-blind readers."""


LIGHT = Theme(
    name="light",
    ink="#1f2328",
    muted="#59636e",
    band="#eef1f5",
    kernel=("#dbe8f6", "#2f6aa8"),
    function=("#e7efe3", "#4d7c3b"),
    site=("#fdeadb", "#b34800"),
    filled=("#b34800", "#ffffff"),
    series=("#59636e", "#0072b2", "#d55e00", "#00805f"),
)
DARK = Theme(
    name="dark",
    ink="#e6e9ed",
    muted="#a0a8b2",
    band="#262b33",
    kernel=("#1c3550", "#7fb4ea"),
    function=("#24361d", "#97c983"),
    site=("#40270f", "#f5a25d"),
    filled=("#f5a25d", "#1c1206"),
    series=("#a0a8b2", "#56b4e9", "#f5a25d", "#2fc79a"),
)
THEMES = (LIGHT, DARK)


@contextmanager
def drawn_for(theme: Theme) -> Iterator[None]:
    """Settings of matplotlib under which a picture is drawn and written."""
    colors = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), theme.ink)
    settings: dict[str, Any] = {
        **colors,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "legend.frameon": False,
        "font.size": 9,
        "mathtext.fontset": "cm",
        "svg.hashsalt": "jaxnorm",  # the same bytes from the same picture
    }
    with matplotlib.rc_context(settings):
        yield


def svg(figure: Figure) -> bytes:
    """The picture as SVG, whose bytes depend on what it shows alone."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    return file.getvalue()
