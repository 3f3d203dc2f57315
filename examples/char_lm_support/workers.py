"""Models side by side: a process each, bound to a core of its own, with one thread."""

import argparse
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from .run_folder import RunFolder
from .text import Text
from .training import train_model

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
Heard = Callable[[str, int, str], None]
"""Hears of a model: its steps in all, and what it does."""


class Worker(NamedTuple):
    """A process that trains one model, and the end of the pipe on which it says how far it is."""

    model: str
    core: int
    process: Any
    said: Connection


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def train_all(
    models: Sequence[str],
    args: argparse.Namespace,
    source: Text,
    folder: RunFolder,
    heard: Heard,
    ended: Callable[[str], None],
) -> dict[str, int]:
    """Trains all models, as many at a time as there are cores; returns the exit codes of those that failed."""
    context = multiprocessing.get_context("spawn")  # the children read the settings of XLA anew
    free = (cores() * (args.processes or 1))[: args.processes]
    waiting, running, failed = list(models), [], {}
    try:
        while waiting or running:
            while waiting and free:
                model, core = waiting.pop(0), free.pop(0)
                # A pipe for each: what all write to could be left locked by one that is killed.
                said, saying = context.Pipe(duplex=False)
                words = (model, core, args, source, folder, saying)
                process = context.Process(target=_work, args=words, name=model, daemon=True)
                process.start()
                saying.close()
                running.append(Worker(model, core, process, said))
            wait([worker.said for worker in running])
            for worker in list(running):
                try:
                    while worker.said.poll():
                        heard(worker.model, *worker.said.recv())
                except (EOFError, OSError):  # it has ended, in whatever way
                    worker.process.join()
                    running.remove(worker)
                    free.append(worker.core)
                    if worker.process.exitcode:
                        failed[worker.model] = worker.process.exitcode
                    else:
                        ended(worker.model)
    finally:
        for worker in running:
            worker.process.terminate()
    return failed


def _work(model: str, core: int, args: argparse.Namespace, source: Text, folder: RunFolder, saying: Connection) -> None:
    """What a process does; it ends with its model, or with the process that began it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # models share an accelerator, if there is one
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    spoke = 0.0

    def tell(number: int, doing: str) -> None:
        nonlocal spoke
        if time.monotonic() - spoke > 0.2:
            saying.send((number, doing))
            spoke = time.monotonic()

    train_model(model, args, source, folder, tell)


def _end_with_parent() -> None:
    """An orphan would go on to write beside the process that resumes the run."""
    multiprocessing.parent_process().join()
    os._exit(1)
