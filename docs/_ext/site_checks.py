"""Checks the files of the built site: links inside of it lead somewhere, and nothing is loaded from another host.

``python docs/_ext/site_checks.py docs/_build/html`` prints what is wrong. Links in prose to other sites are no fault.
"""

import functools
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"), "audio": ("src",),
    "video": ("src", "poster"), "embed": ("src",), "object": ("data",), "input": ("src",), "image": ("href",),
    "use": ("href",), "link": ("href",),
}  # fmt: skip
"""Attributes whose files a browser fetches by itself."""
CSS_ADDRESS = re.compile(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""")
HAS_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """What a page has and names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes anchors, links, and what is fetched."""
        given = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += [given[name] for name in LOADED.get(tag, ()) if name in given]
        self.loaded += css_addresses(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Notes what styles in the page fetch."""
        if self._in_style:
            self.loaded += css_addresses(data)

    def handle_endtag(self, tag: str) -> None:
        """Leaves the styles."""
        self._in_style = False


def css_addresses(text: str) -> list[str]:
    """The addresses that a style sheet fetches."""
    return [found for pair in CSS_ADDRESS.findall(text) for found in pair if found]


@functools.cache
def page(path: Path) -> Page:
    """A page, read once."""
    return Page(path.read_text(encoding="utf-8", errors="replace"))


def faults(site: Path) -> list[str]:
    """What is wrong, one line each."""
    site = site.resolve()
    found: list[str] = []
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site)
        if name.parts[0] == "_static":  # templates of the theme
            continue
        for address in dict.fromkeys((*page(path).loaded, *page(path).links)):
            fetched = address in page(path).loaded
            found += [f"{name}: {fault}" for fault in _faults_of(address, path, site, fetched=fetched)]
    for path in sorted(site.rglob("*.css")):
        addresses = dict.fromkeys(css_addresses(path.read_text(encoding="utf-8", errors="replace")))
        found += [
            f"{path.relative_to(site)}: loads {text} from another host" for text in addresses if _is_outside(text)
        ]
    return found


def _is_outside(address: str) -> bool:
    return bool(HAS_HOST.match(address))


def _faults_of(address: str, path: Path, site: Path, *, fetched: bool) -> list[str]:
    parts = urlsplit(address)
    if _is_outside(address):
        return [f"loads {address} from another host"] if fetched else []
    if parts.scheme:  # data:, mailto:
        return []
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(site) or not target.is_file():
        return [f"there is no {address}"]
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in page(target).anchors:
        return [f"there is no place {address}"]
    return []


def main(site: str) -> None:
    """Prints what is wrong, and fails if something is."""
    found = faults(Path(site))
    pages = len(list(Path(site).rglob("*.html")))
    print("\n".join(found) or f"{pages} pages: all links lead somewhere, and nothing comes from another host.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
