"""In shell blocks of the pages each command has a line of its own: behind a comment no shell reads it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "benchmarks", "docs", "experiments")
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
SWALLOWED = re.compile(r"#.*\b(python -m|python examples/|make [a-z-]+ [A-Z]+=)")


def _lines(text: str) -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_command_stands_behind_a_comment(page):
    assert [line for line in _lines(page.read_text()) if SWALLOWED.search(line)] == []


def test_a_block_that_was_wrapped_is_found():
    wrapped = "```sh\nmake bench # everything make bench ARGS=cells\n```\n"
    assert [line for line in _lines(wrapped) if SWALLOWED.search(line)] != []
