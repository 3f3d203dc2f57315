"""The processes of char_lm.py: one that is killed costs no number, and none outlives the program."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.examples.char_lm_runs import SCRIPT, TEXT, TINY, assert_same, numbers

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX systems"),
]
SHORT = [*TINY, "--sweep-steps", "2", "--steps", "6000", "--seeds", "1", "--eval-every", "2000",
         "--checkpoint-every", "1000"]  # fmt: skip


@pytest.fixture
def begin(char_lm, tmp_path):
    """Options, text and folder of a run with real processes."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")

    def begin(out, models):
        words = [*SHORT, "--data", str(tmp_path / "text.txt"), "--out", str(tmp_path / out), "--models", *models]
        args = char_lm.options.parse(words)
        return args, char_lm.text.load(args.data, args.held_out, args.limit), char_lm.RunFolder(args, "of the text")

    return begin


def test_a_killed_worker_is_named_and_its_model_goes_on(char_lm, begin):
    """The other model is not held up by it; the next call makes the rest, to the numbers of a run without a kill."""

    def train(models, job, heard=lambda *_: None):
        ended = []
        return char_lm.workers.train_all(models, *job, heard, ended.append), ended

    def kill(model, number, _):
        if model == "elman" and number > 0:
            for process in multiprocessing.active_children():
                if process.name == model:
                    os.kill(process.pid, signal.SIGKILL)

    job = begin("killed", ["elman", "gru"])
    assert train(["elman", "gru"], job, kill) == ({"elman": -signal.SIGKILL}, ["gru"])
    assert char_lm.summarize("elman", job[0], job[2]) is None
    assert train(["elman"], job) == ({}, ["elman"])
    whole = begin("whole", ["elman"])
    assert train(["elman"], whole) == ({}, ["elman"])
    resumed, untouched = (char_lm.summarize("elman", args, folder) for args, _, folder in (job, whole))
    assert_same(numbers(resumed.records), numbers(untouched.records))


def test_a_failure_is_said_and_ends_with_code_one(char_lm, begin, monkeypatch, capsys):
    args, _, folder = begin("out", ["elman"])
    monkeypatch.setattr(char_lm, "RunFolder", lambda args, sha256: folder)
    monkeypatch.setattr(char_lm.workers, "train_all", lambda *_: {"elman": -9})
    assert char_lm.run(args) == 1
    out, err = capsys.readouterr()
    assert err == "char_lm.py: the process of elman ended with exit code -9. The same command goes on.\n"
    assert "waits" in out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_workers_end_with_the_program(tmp_path):
    """Else an orphan would write beside the run that resumes."""

    def children(parent):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                command = (stat.parent / "cmdline").read_text()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[1]) == parent and "spawn_main" in command:
                found.append(int(stat.parent.name))
        return found

    def wait_for(condition):
        deadline = time.monotonic() + 1800
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    command = [sys.executable, str(SCRIPT), *SHORT, "--steps", "100000", "--models", "elman", "--processes", "1",
               "--out", str(tmp_path / "out")]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or (tmp_path / "out/models/elman/sweep-0.02.json").exists())
        workers = children(process.pid)
        assert len(workers) == 1
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
