"""Every command of the page "From one core to a pod" is one that the program takes, and runs (with tiny sizes)."""

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.train_distributed_runs import EXAMPLES, TINY, end, environment, free_port, lines, program

PAGE = EXAMPLES.parent / "docs" / "pods.md"
PROGRAM = ["python", "examples/train_distributed.py"]


def commands():
    """The lines of all blocks of shell, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def options(line):
    """The words after the program; what comes before it starts it."""
    words = shlex.split(line)
    begin = words.index(PROGRAM[1])
    assert words[begin - 1] == PROGRAM[0], line
    return words[begin + 1 :]


def test_the_page_shows_every_way_to_run():
    shown = " ".join(commands())
    assert len(commands()) > 10
    for word in ("--coordinator", "--cluster", "srun", "--resume", "--mesh", "--compile-for", "--export", "--stop-at"):
        assert word in shown


@pytest.mark.parametrize("line", commands())
def test_the_program_takes_what_the_page_says(line, monkeypatch):
    program()
    from train_distributed_support import options as command_line

    monkeypatch.setattr(command_line, "_stored", lambda _: {})
    command_line.parse(options(line))


def slurm(number, port):
    """What Slurm tells each of its processes; JAX takes the port from the number of the job."""
    told = {"SLURM_JOB_ID": str(port), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": str(number),
            "SLURM_STEP_NUM_TASKS": str(number), "SLURM_LOCALID": "0"}  # fmt: skip
    return [{**told, "SLURM_PROCID": str(k)} for k in range(number)]


def starts(line, beside):
    """The words and the environment of each process that a line (and those beside it) stands for."""
    words = options(line)
    small = [] if "--resume" in words or "--compile-for" in words else [*TINY, "--stop-at", "2"]
    small += [] if "--cpu-devices" in words or "--compile-for" in words else ["--cpu-devices", "1"]
    if "--compile-for" in words:
        return [([*words, "--smoke", "--hidden", "16", "--batch", "64", "--window", "4"], {})]
    if "--coordinator" in words:
        address = f"localhost:{free_port()}"
        return [([address if "HOST" in word else word for word in options(other)] + small, {}) for other in beside]
    if "--cluster" in words or line.startswith("srun"):
        number = int((re.findall(r"--ntasks=(\d+)", line) or [2])[0])
        return [(words + small, told) for told in slurm(number, free_port())]
    return [(words + small, {})]


@pytest.mark.long
@pytest.mark.heavy
def test_every_command_runs(tmp_path):
    """In their order, as a reader types them; those that differ only in the number of the process run together."""
    program()

    def alike(line):
        return re.sub(r"--process \d+", "", line)

    for _, group in itertools.groupby(commands(), alike):
        beside = list(group)
        processes = [
            subprocess.Popen([sys.executable, str(EXAMPLES / "train_distributed.py"), *words], cwd=tmp_path,
                             env={**environment(), **told}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for words, told in starts(beside[0], beside)
        ]  # fmt: skip
        heard = end(processes)
        if "--compile-for" in beside[0] and importlib.util.find_spec("libtpu") is None:
            assert [(code, err.count("\n")) for code, _, err in heard] == [(2, 1)], heard
            assert "pip install libtpu" in heard[0][2]
            continue
        assert all(code == 0 for code, *_ in heard), (beside, heard)
        assert heard[0][1]
    assert {path.name for path in (tmp_path / "runs").iterdir()} >= {"lm", "hour", "two", "slice", "slurm", "lm.zip"}
    assert len(lines(tmp_path / "runs" / "eight")) == 4
    assert os.path.getsize(tmp_path / "runs" / "lm.zip") > 0
    assert Path(tmp_path / "runs" / "two" / "logs" / "process-1.log").exists()
