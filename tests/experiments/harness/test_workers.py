"""Workers, when the process that began them is gone."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def within(seconds, true):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc, which Linux alone has")
def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    command = [sys.executable, "-m", "experiments", "run", "mnist", "--arms", "none, batch 4", "--out", tmp_path]
    run = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        within(120, lambda: len(children(run.pid)) > 1 or run.poll() is not None)  # a tracker of resources, a worker
        assert run.poll() is None, "the run ended by itself"
        orphans = children(run.pid)
    finally:
        run.kill()
        run.wait()
    # It hears of it at its next step: a run resumed at once would write to the same files.
    within(120, lambda: not any(_runs(pid) for pid in orphans))


def _runs(pid):
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
