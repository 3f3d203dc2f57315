"""Every program among the examples runs with --smoke."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"


def programs():
    """The files that are meant to be run; the rest are helper modules."""
    return sorted(path for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


def test_there_are_programs():
    assert {"char_lm.py"} <= {path.name for path in programs()}


@pytest.mark.parametrize("program", programs(), ids=lambda path: path.name)
def test_example_runs(program, tmp_path):
    done = subprocess.run(
        [sys.executable, str(program), "--smoke"], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip(), "an example shows something"
