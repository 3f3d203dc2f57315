"""A process of several and the one that watches over it.

When a process of several dies, JAX ends the others from within, with what its C++ code has to say. So the work is done
by a child whose errors go to a file, and the parent says in one line how it ended.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from char_lm_support.errors import BadInput

from . import processes

CHILD = "TRAIN_DISTRIBUTED_CHILD"
SAID = "train_distributed.py: "
JOINED = "all processes are there"
"""A line of the child on stderr."""
LOST = 3
"""The exit code of a process that lost another one."""


def is_child() -> bool:
    return CHILD in os.environ


def supervise(args: argparse.Namespace, script: str, argv: Sequence[str]) -> int:
    """Runs the program as a child; its lines on stderr that are meant for the user are shown, all are kept.

    They are added to those of the starts before, which say why these ended.
    """
    name = _name(args)
    log = Path(args.out) / "logs" / f"process-{name}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise BadInput(
            f"--out {args.out}: cannot be written ({error.strerror}). Choose a folder that you may write to."
        ) from error
    child = subprocess.Popen(
        [sys.executable, script, *argv], env={**os.environ, CHILD: "1"}, stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    with file, child:
        file.write(f"--- {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}: starts\n")
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child of a terminal hears it, too
        said = joined = False
        for line in child.stderr:
            file.write(line)
            joined = joined or line.startswith(JOINED)
            if line.startswith(SAID) and not said:
                said = True
                sys.stderr.write(line)
                sys.stderr.flush()
        code = child.wait()
    if code and not said:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        ended = (f"process {name} ended with {how}; see {log}. If another process died first, start all of them again: "
                 "the same command goes on.")  # fmt: skip
        print(f"{SAID}{ended if joined else processes.describe_absence(args)}", file=sys.stderr)
    return LOST if code < 0 else code


def _name(args: argparse.Namespace) -> str:
    """The number of this process; where nobody told it, its host and its number there: no two share a log."""
    told = (os.environ[name] for name in processes.RANKS if name in os.environ)
    return next(told, f"{platform.node()}-{os.getpid()}") if args.process is None else str(args.process)


def prepare_child() -> None:
    """Ends with the parent: a child that goes on would write beside the processes that resume the run.

    What C++ code prints goes to the errors, and so to the file; what Python prints is for the user.
    """
    user = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(user, "w", buffering=1, encoding="utf-8")

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)  # returns when the parent is gone
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
