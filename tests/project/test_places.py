"""Tests lie as the source does: a folder of tests is named after one of the package, or is one of a few others."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {"conftest.py", "cases.py", "cell_cases.py"}
OTHERS = {
    "benchmarks", "contracts", "defects", "docs", "examples", "experiments", "export", "first_hour", "flax", "messages",
    "ports", "project", "tools",
}  # fmt: skip


def misplaced(tests, package=ROOT / "jaxnorm"):
    """Files of tests whose folder has no counterpart."""
    files = (path.relative_to(tests) for path in sorted(tests.rglob("*.py")))
    return [
        str(path)
        for path in files
        if not (path.parts[0] in TABLES | OTHERS or (len(path.parts) > 1 and (package / path.parent).is_dir()))
    ]


def test_tests_lie_as_the_source_does():
    assert misplaced(ROOT / "tests") == []


@pytest.mark.parametrize("place", ["test_planted.py", "norms/batch/test_planted.py", "assorted/test_planted.py"])
def test_a_file_in_another_place_is_caught(tmp_path, place):
    planted = tmp_path / place
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.touch()
    assert misplaced(tmp_path) == [place]
