"""What the tests of the example train_distributed.py share: a tiny run, its processes, and how its numbers are read."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "train_distributed.py"
if str(EXAMPLES) not in sys.path:
    sys.path.insert(0, str(EXAMPLES))

TINY = ["--smoke", "--hidden", "4", "--features", "4", "--window", "4", "--limit", "900", "--sample", "8",
        "--log-every", "1"]  # fmt: skip
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def program():
    """The program as a module; skipped where its libraries are missing."""
    for library in ("orbax.checkpoint", "rich", "grain"):
        pytest.importorskip(library, reason=f"the example needs {library}: pip install jaxnorm[examples]")
    import train_distributed

    return train_distributed


def lines(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    """The loss of each step, those of validation, and the norm of each gradient."""
    found = lines(folder)
    assert [line["step"] for line in found] == list(range(1, len(found) + 1))
    return tuple([line[name] for line in found if name in line] for name in ("bits", "valid_bits", "gradient_norm"))


def assert_same(folder, expected):
    """The same losses on another mesh: sums are taken in another order."""
    *found, norms = losses(folder)
    *wanted, wanted_norms = expected
    for some, others in zip(found, wanted, strict=True):
        np.testing.assert_allclose(some, others, rtol=1e-5)
    np.testing.assert_allclose(norms, wanted_norms, rtol=1e-3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def environment():
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PYTEST_CURRENT_TEST")}
    paths = os.pathsep.join(filter(None, (str(EXAMPLES.parent), os.environ.get("PYTHONPATH"))))
    return {**kept, "XLA_FLAGS": QUICK, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}


def start(number, *argv, port=None):
    """Starts the program as so many processes, or as one that needs no others."""
    words = [sys.executable, str(SCRIPT), *map(str, argv)]
    place = ["--coordinator", f"localhost:{port or free_port()}", "--processes", str(number), "--process"]
    commands = [[*words, *place, str(k)] for k in range(number)] if number > 1 else [words]
    return [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]


def end(processes, seconds=1800):
    """Waits for processes; returns for each exit code, stdout and stderr."""
    heard = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=seconds)
            heard.append((process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
    return heard


def kill(process):
    """Kills a process and lets go of its pipes."""
    process.kill()
    process.communicate()


def run(number, *argv):
    """Runs the program as so many processes, all of which must succeed; returns what process 0 said."""
    heard = end(start(number, *argv))
    assert [code for code, *_ in heard] == [0] * number, heard
    assert all(out == "" for _, out, _ in heard[1:]), "only process 0 speaks"
    assert all(err == "" for *_, err in heard), heard
    return heard[0][1]
