import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def experiments(*words):
    return subprocess.run(
        [sys.executable, "-m", "experiments", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "mnits"), "no experiment is called mnits"),
        (("run", "mnist", "--data", "nowhere"), "--data nowhere: there is no such folder"),
        (("run", "mnist", "--data", ROOT), "there is no file mnist/train-images-idx3-ubyte.gz"),
        (("run", "mnist", "--arms", "RMS"), "--arms: mnist has no arm RMS"),
        (("run", "mnist", "--seeds", "0"), "must be a whole number above zero, got '0'"),
        (("run", "mnist", "--scale", "large"), "invalid choice: 'large'"),
        (("report", "--out", "nowhere"), "--out nowhere: has no records"),
        ((), "the following arguments are required: ACTION"),
    ],
)
def test_bad_input_is_one_line(words, says):
    done = experiments(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_records_are_neither_overwritten_nor_mixed(tmp_path):
    first = experiments("run", "mnist", "--smoke", "--arms", "none, batch 128", "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    records = next(tmp_path.glob("mnist/records/*.jsonl"))
    before = records.read_bytes()
    refused = experiments("run", "mnist", "--smoke", "--out", tmp_path)
    assert refused.returncode == 2
    assert "has records of mnist. Go on with --resume" in refused.stderr
    other = experiments("run", "mnist", "--resume", "--out", tmp_path)
    assert other.returncode == 2
    assert "are of scale smoke, not small" in other.stderr
    resumed = experiments("run", "mnist", "--smoke", "--resume", "--arms", "none, batch 128", "--out", tmp_path)
    assert resumed.returncode == 0
    assert records.read_bytes() == before
