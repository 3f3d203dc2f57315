"""The house rules for the public names of jaxnorm.analysis, which is no part of ``import jaxnorm``."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnorm import analysis

ROOT = Path(__file__).parents[2]
INDEX = [
    alias
    for node in ast.parse((ROOT / "jaxnorm" / "analysis" / "__init__.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]


@pytest.mark.parametrize("name", sorted(alias.asname or alias.name for alias in INDEX))
def test_public_name_is_documented(name):
    item = getattr(analysis, name)
    doc = inspect.getdoc(item) or ""
    assert doc, f"{name} has no docstring"
    page = (ROOT / "docs" / "api" / "analysis.md").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto\w+:: jaxnorm\.analysis\.{name}$", page, re.MULTILINE), f"{name} is not in the page"
    if inspect.isfunction(item):
        missing = [section for section in ("Args:", "Returns:", "Example:", ">>>") if section not in doc]
        assert missing == [], f"the docstring of {name} has no {missing}"
        parameters = [p.name for p in inspect.signature(item).parameters.values()]
        assert [p for p in parameters if not re.search(rf"^\s*(\*\*)?{p}: ", doc, re.MULTILINE)] == []


def test_the_page_names_nothing_else():
    page = (ROOT / "docs" / "api" / "analysis.md").read_text(encoding="utf-8")
    assert [n for n in re.findall(r"jaxnorm\.analysis\.(\w+)$", page, re.MULTILINE) if not hasattr(analysis, n)] == []


def test_importing_it_imports_neither_flax_nor_matplotlib_and_is_not_part_of_jaxnorm():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import jaxnorm; assert 'jaxnorm.analysis' not in sys.modules;"
        "import jaxnorm.analysis; print([m for m in ('flax', 'optax', 'chex', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
