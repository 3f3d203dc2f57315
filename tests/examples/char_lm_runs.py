"""What the tests of the example char_lm.py share: a tiny run, and how its numbers are compared."""

import json
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "char_lm.py"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

TEXT = "the quick brown fox jumps over the lazy dog; élan, naïve.\n" * 40
TINY = ["--hidden", "4", "--batch", "2", "--window", "4", "--passage", "3", "--limit", "900", "--characters", "40",
        "--learning-rates", "0.004", "0.02"]  # fmt: skip


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(records: list[dict]) -> list[dict]:
    """Metrics without what the clock says."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "ms_per_step")} for record in records]


def assert_same(got: list[dict], expected: list[dict]) -> None:
    assert [line.keys() for line in got] == [line.keys() for line in expected]
    for a, b in zip(got, expected, strict=True):
        for key, value in b.items():
            same = value if value is None or isinstance(value, str) else pytest.approx(value, abs=1e-6)
            assert a[key] == same, (key, a, b)
