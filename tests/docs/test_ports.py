"""The page on ports names the files that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_names_all_ports():
    named = re.findall(r"tests/ports/test_\w+\.py", (ROOT / "docs/ports.md").read_text())
    assert sorted(named) == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests/ports").glob("test_*.py"))
