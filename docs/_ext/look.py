"""Looks at the built site in a browser: formulas, tables, search, and that no page asks another host for anything.

``python docs/_ext/look.py docs/_build/html PICTURES`` looks at eleven pages at two widths and writes a picture of each.
"""

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from browser import MISSING, Browser, find

PAGES = (
    "index", "guides/quickstart", "choosing", "gallery", "equations", "cells", "normalizers", "ln_lstm", "api/presets",
    "api/cells", "api/flax",
)  # fmt: skip
FORMULAS = {"equations", "cells", "normalizers", "ln_lstm", "api/presets", "api/cells"}
"""Pages with formulas."""
WIDTHS = (1400, 390)
PROBE = """
(async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const scrolls = node => node && ["auto", "scroll"].includes(getComputedStyle(node).overflowX);
  const reachable = table => {
    for (let node = table; node && node.tagName !== "ARTICLE"; node = node.parentElement)
      if (scrolls(node)) return node.getBoundingClientRect().right <= innerWidth + 1;
    return table.getBoundingClientRect().right <= innerWidth + 1;
  };
  const sources = [...document.querySelectorAll("article .math")];
  return {
    sources: sources.length,
    formulas: sources.filter(source => source.querySelector("mjx-container svg")).length,
    errors: document.querySelectorAll("article mjx-merror, article [data-mml-node=merror]").length,
    cut: [...document.querySelectorAll("article table")].filter(table => !reachable(table)).length,
    overflow: document.documentElement.scrollWidth - innerWidth,
  };
})()
"""
SEARCH = """
new Promise(done => {
  const found = () => [...document.querySelectorAll("#search-results li a")].map(link => link.getAttribute("href"));
  const ready = () => found().some(link => link.includes("api/flax"));
  const wait = tries => ready() || !tries ? done(found()) : setTimeout(wait, 100, tries - 1);
  wait(200);
})
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serves a folder while the block runs; the value is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def faults(page: str, seen: dict[str, Any], requests: list[str], address: str) -> list[str]:
    """What is wrong with a page."""
    outside = [request for request in requests if not request.startswith((address, "data:", "about:", "blob:"))]
    found = [f"asks for {request}" for request in outside]
    if page in FORMULAS and not seen["sources"]:
        found.append("has no formula")
    if seen["formulas"] != seen["sources"]:
        found.append(f"shows {seen['formulas']} of {seen['sources']} formulas")
    found += [f"has {seen[kind]} {text}" for kind, text in TEXTS.items() if seen[kind] > 0]
    return [f"{page}: {fault}" for fault in found]


TEXTS = {
    "errors": "formulas with errors",
    "cut": "tables that are cut off",
    "overflow": "pixels more than the window is wide",
}


def look(site: Path, pictures: Path | None = None, pages: tuple[str, ...] = PAGES) -> list[str]:
    """Looks at pages at both widths; returns what is wrong with them."""
    program = find()
    assert program, MISSING
    found = []
    with served(site) as address, Browser(program) as browser:
        for page in pages:
            for width in WIDTHS:
                browser.open(f"{address}/{page}.html", width=width)
                seen = browser.evaluate(PROBE)
                found += [f"{fault} ({width} pixels)" for fault in faults(page, seen, browser.requests, address)]
                if pictures is not None:
                    browser.picture(pictures / f"{page.replace('/', '-')}-{width}.png")
        browser.open(f"{address}/search.html?q=seq_lengths")
        results = browser.evaluate(SEARCH)
        if not any("api/flax" in result for result in results):
            found.append(f"search: seq_lengths leads to {results}, not to the modules of Flax")
    return found


def main(site: str, pictures: str) -> None:
    """Looks, and fails if something is wrong."""
    if find() is None:
        sys.exit(f"look.py: {MISSING}.")
    Path(pictures).mkdir(parents=True, exist_ok=True)
    found = look(Path(site), Path(pictures))
    print("\n".join(found) or f"{len(PAGES)} pages at {len(WIDTHS)} widths are as they should be.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
