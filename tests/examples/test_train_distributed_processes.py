"""Several processes of train_distributed.py: they compute what one computes, and survive the loss of any of them."""

import os
import platform
import random
import signal
import subprocess
import time

import numpy as np
import pytest

from tests.examples.train_distributed_runs import (
    TINY,
    assert_same,
    end,
    free_port,
    kill,
    lines,
    losses,
    program,
    run,
    start,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL is of POSIX systems"),
]
LONGER = [*TINY, "--steps", "16", "--eval-every", "8", "--warmup", "3", "--passage", "3", "--checkpoint-every", "4"]


@pytest.fixture(scope="module", autouse=True)
def libraries():
    program()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The numbers of a run that one process made at once."""
    folder = tmp_path_factory.mktemp("whole")
    run(1, *LONGER, "--cpu-devices", 1, "--out", folder)
    return losses(folder)


def test_two_processes_share_a_run_that_one_goes_on_with(tmp_path):
    """The one has four devices, and ends with the numbers of a run that it made alone."""
    words = [*TINY, "--steps", "6"]
    out, once = tmp_path / "out", tmp_path / "once"
    said = run(2, *words, "--stop-at", 3, "--cpu-devices", 1, "--out", out)
    assert "mesh: data=2,model=1" in said
    assert "stopped after step 3" in said
    assert program().main(["--resume", "--out", str(out)]) == 0
    assert program().main([*words, "--out", str(once)]) == 0
    assert_same(out, losses(once))


def test_two_processes_write_one_file_of_programs(tmp_path):
    """Process 0 writes it, with the weights and the rows of the carry that the other one holds."""
    from train_distributed_support import programs

    file = tmp_path / "new" / "programs.zip"
    said = run(2, *TINY, "--cpu-devices", 2, "--mesh", "data=2,model=2", "--out", tmp_path / "out", "--export", file)
    assert f"written: {file}" in said
    assert [path.name for path in file.parent.iterdir()] == ["programs.zip"]
    found = programs.read(file)
    assert int(found.state[0]) == 4
    assert found.state[-1].shape == (8, 4)  # the carry of all rows
    assert all(np.any(rows) for rows in found.state[-1])


@pytest.mark.heavy
def test_a_run_moves_from_mesh_to_mesh(tmp_path, whole):
    """2 -> 1 -> 4 processes -> 2 of two devices each, whose kernels are spread."""
    out = ["--out", tmp_path / "out"]
    run(2, *LONGER, "--cpu-devices", 1, "--stop-at", 4, *out)
    run(1, "--resume", "--cpu-devices", 1, "--stop-at", 7, *out)
    run(4, "--resume", "--cpu-devices", 1, "--stop-at", 11, *out)
    assert "data=2,model=2" in run(2, "--resume", "--cpu-devices", 2, "--mesh", "data=2,model=2", *out)
    assert_same(out[1], whole)


@pytest.mark.heavy
@pytest.mark.parametrize("option", ["--seed", "--stop-at"])
def test_processes_with_other_options_are_refused(tmp_path, option):
    """Those of the run, and those of this start alone: a process that stops would leave the other one waiting."""
    port = free_port()
    first, second = (start(2, *TINY, option, value, "--cpu-devices", 1, "--out", tmp_path / "out", port=port)
                     for value in (1, 2))  # fmt: skip
    kill(first[1])
    kill(second[0])
    heard = end([first[0], second[1]])
    assert [code for code, *_ in heard] == [2, 2]
    assert all("differ from those of process 0" in err and err.count("\n") == 1 for *_, err in heard)


@pytest.mark.heavy
def test_what_process_0_refuses_all_refuse(tmp_path):
    (tmp_path / "file").touch()
    words = ["--out", tmp_path / "out", "--export", tmp_path / "file" / "programs.zip"]
    heard = end(start(2, *TINY, "--cpu-devices", 1, *words))
    assert [code for code, *_ in heard] == [2, 2], heard
    assert len({err for *_, err in heard}) == 1
    assert "programs.zip: cannot be written" in heard[0][2]
    assert heard[0][2].count("\n") == 1
    assert not (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize("process", [0, pytest.param(1, marks=pytest.mark.heavy)])
def test_a_process_that_is_alone_says_so(tmp_path, process):
    both = start(2, *TINY, "--cpu-devices", 1, "--timeout", 2, "--out", tmp_path / "out")
    kill(both[1 - process])
    ((code, out, err),) = end([both[process]])
    assert (code, out, err.count("\n")) == (3, "", 1), err
    assert "--coordinator localhost:" in err
    assert "within --timeout 2 seconds" in err


def kill_one(processes, out, after, chance):
    """Kills a process once a step was made, at a random moment; the others must end with one line each."""
    deadline = time.monotonic() + 1800
    while not ((out / "metrics.jsonl").exists() and len(lines(out)) > after):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.6))
    victim = chance.choice(processes)
    victim.send_signal(signal.SIGKILL)
    for process, (code, _, err) in zip(processes, end(processes), strict=True):
        if process is victim:
            assert code == -signal.SIGKILL
        else:
            assert code == 3, err
            assert err.startswith("train_distributed.py: process")
            assert err.count("\n") == 1, err


@pytest.mark.heavy
def test_twenty_kills_cost_no_number(tmp_path):
    """Each at a random moment, of a random process, of two or three; the numbers are those of a run without a kill."""
    chance = random.Random(0)
    steps = [*LONGER[:-2], "--checkpoint-every", "2", "--steps", "4000"]
    out = tmp_path / "out"
    for _ in range(20):
        number = chance.choice((2, 3))
        words = [*steps, "--batch", "12", "--cpu-devices", "1", "--out", str(out)]
        after = len(lines(out)) if (out / "metrics.jsonl").exists() else 0
        kill_one(start(number, *words), out, after, chance)
    last = len(lines(out))
    assert last > 20
    run(1, *words, "--stop-at", last + 2)
    run(1, *words[:-1], tmp_path / "once", "--stop-at", last + 2)
    found, expected = (np.array(losses(folder)[0]) for folder in (out, tmp_path / "once"))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.heavy
def test_the_same_processes_go_on_to_the_same_bits(tmp_path):
    words = [*LONGER, "--cpu-devices", 1]
    run(2, *words, "--out", tmp_path / "once")
    run(2, *words, "--out", tmp_path / "twice", "--stop-at", 7)
    run(2, *words, "--out", tmp_path / "twice")
    assert losses(tmp_path / "twice") == losses(tmp_path / "once")


@pytest.mark.parametrize("number", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_processes_that_are_told_to_end_save_first(tmp_path, number):
    out = tmp_path / "out"
    processes = start(
        number, *LONGER[:-2], "--steps", 4000, "--checkpoint-every", 3000, "--cpu-devices", 1, "--out", out
    )
    while not ((out / "metrics.jsonl").exists() and lines(out)):
        assert all(process.poll() is None for process in processes), end(processes)
        time.sleep(0.1)
    processes[-1].terminate()
    heard = end(processes)
    assert [code for code, *_ in heard] == [0] * number, heard
    assert "as it was told" in heard[0][1]
    (checkpoint,) = (out / "checkpoints").iterdir()
    assert int(checkpoint.name) == len(lines(out))


def test_a_log_keeps_why_the_start_before_ended(tmp_path, monkeypatch):
    from train_distributed_support import options, supervisor

    script = tmp_path / "script.py"
    script.write_text("import sys; sys.exit(sys.argv[1])")
    monkeypatch.setattr(supervisor.signal, "signal", lambda *_: None)
    place = ["--coordinator", "here:1", "--processes", "2", "--process", "1"]
    for why in ("first", "second"):
        assert supervisor.supervise(options.parse([*place, "--out", str(tmp_path)]), str(script), [why]) == 1
    begun, first, again, second = (tmp_path / "logs/process-1.log").read_text().splitlines()
    assert (first, second) == ("first", "second")
    assert all(line.startswith("--- 20") and line.endswith(": starts") for line in (begun, again))


def test_processes_on_one_host_have_logs_of_their_own(monkeypatch):
    """By the number that a cluster gave them, or by that of their host."""
    from train_distributed_support import options, processes, supervisor

    for name in processes.RANKS:
        monkeypatch.delenv(name, raising=False)
    args = options.parse(["--cluster"])
    assert supervisor._name(args) == f"{platform.node()}-{os.getpid()}"
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert supervisor._name(args) == "3"


@pytest.mark.heavy
def test_a_child_ends_with_its_parent(tmp_path):
    """Else it would write beside the processes that resume the run."""
    both = start(2, *TINY, "--steps", 4000, "--cpu-devices", 1, "--timeout", 60, "--out", tmp_path / "out")
    kill(both[1])
    children = []
    while not children:
        assert both[0].poll() is None
        found = subprocess.run(["ps", "--ppid", str(both[0].pid), "-o", "pid="], capture_output=True, text=True)
        children = [int(word) for word in found.stdout.split()]
    both[0].kill()
    end(both)
    deadline = time.monotonic() + 600
    while os.path.exists(f"/proc/{children[0]}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
