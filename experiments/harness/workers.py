"""Arms side by side: a process each, bound to a core of its own, with one thread."""

import contextlib
import dataclasses
import multiprocessing
import os
import queue
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class Job(NamedTuple):
    """An arm of a claim, and where it reads and writes."""

    claim: str
    arm: str
    scale: str
    data: Path | None
    out: Path
    seeds: int | None

    @property
    def title(self) -> str:
        """What the progress bar says."""
        return f"{self.claim}: {self.arm}"


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_jobs(jobs: Sequence[Job], processes: int, console: Console) -> list[str]:
    """Runs all jobs, shows how far they are, and returns what failed, in words."""
    free = [core for _, core in zip(range(processes), cores() * processes, strict=False)]
    waiting, failed = list(jobs), []
    running: dict[str, tuple[Any, int, TaskID]] = {}
    context = multiprocessing.get_context("spawn")  # the children read the settings of jax anew
    said: Any = context.Queue()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_THREAD}".strip()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with _bars(console) as bars:
        whole = bars.add_task(f"all {len(jobs)} arms", total=len(jobs), what="")
        try:
            while waiting or running:
                while waiting and free:
                    job, core = waiting.pop(0), free.pop(0)
                    process = context.Process(target=_work, args=(job, core, said), daemon=True)
                    process.start()
                    running[job.title] = (process, core, bars.add_task(job.title, total=None, what="begins"))
                with contextlib.suppress(queue.Empty):
                    while True:
                        title, done, total, what = said.get(timeout=0.2)
                        if title in running:
                            bars.update(running[title][2], completed=done, total=total, what=what)
                for title, (process, core, bar) in list(running.items()):
                    if not process.is_alive():
                        process.join()
                        if process.exitcode != 0:
                            failed.append(f"{title} (exit code {process.exitcode})")
                        bars.remove_task(bar)
                        bars.advance(whole)
                        free.append(core)
                        del running[title]
        finally:
            for process, _, _ in running.values():
                process.terminate()
    return failed


def run_smoke(jobs: Sequence[Job], console: Console) -> list[str]:
    """Runs all jobs in this process, with two rates and one seed, to see that they run; the compiler may hurry."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    from experiments.claims import claim_named
    from experiments.harness import machine
    from experiments.harness.arm import run_arm

    for job in jobs:
        claim = claim_named(job.claim)
        claim = dataclasses.replace(claim, rates={arm: claim.rates_of(arm)[:2] for arm in claim.arms}, extensions=0)
        console.print(job.title, markup=False, highlight=False)
        run_arm(
            claim,
            job.arm,
            scale=job.scale,
            data=job.data,
            out=job.out,
            seeds=job.seeds or 1,
            made_by=machine.describe(),
            tell=lambda done, total, what: None,
        )
    return []


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _work(job: Job, core: int, said: Any) -> None:
    """What a process does; it ends with its arm."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    from experiments.claims import claim_named
    from experiments.harness import machine
    from experiments.harness.arm import run_arm

    spoke, parent = 0.0, multiprocessing.parent_process()

    def tell(done: int, total: int, what: str) -> None:
        nonlocal spoke
        if parent is not None and not parent.is_alive():  # killed: whoever resumes writes to the same files
            raise SystemExit(1)
        if time.monotonic() - spoke > 0.5:
            said.put((job.title, done, total, what))
            spoke = time.monotonic()

    run_arm(
        claim_named(job.claim),
        job.arm,
        scale=job.scale,
        data=job.data,
        out=job.out,
        seeds=job.seeds,
        made_by=machine.describe(),
        tell=tell,
    )
