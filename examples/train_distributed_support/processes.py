"""The other processes: finding them, agreeing with them, waiting for them, gathering what they hold."""

import argparse
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from char_lm_support.errors import BadInput
from jax.experimental import multihost_utils

SIZES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
RANKS = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX", "TPU_WORKER_ID")
"""What clusters tell a process of its number, if they do."""
LONGEST = 4_000
"""Bytes of a refusal."""
WEEK = 7 * 24 * 60 * 60 * 1000
"""In milliseconds."""


def several(args: argparse.Namespace) -> bool:
    """Whether this process is one of several, by its options or by what a cluster tells its processes."""
    named = any(os.environ.get(name, "1") not in ("", "1") for name in SIZES)
    return bool(args.coordinator) or args.cluster or named or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def join(args: argparse.Namespace) -> None:
    """Chooses the devices of this process and waits until all processes are there."""
    if args.cpu_devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", args.cpu_devices)
    if not several(args):
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            args.coordinator, args.processes, args.process,
            initialization_timeout=args.timeout, heartbeat_timeout_seconds=args.timeout, shutdown_timeout_seconds=30,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{describe_absence(args)} ({' '.join(str(error).split())[:120]})") from error


def describe_absence(args: argparse.Namespace) -> str:
    """What to say if not all processes came."""
    if not args.coordinator:
        place, said = "--cluster", "the other processes were not found"
    elif args.process == 0:
        place, said = f"--coordinator {args.coordinator}", f"not all of {args.processes} processes came to this address"
    else:
        place, said = f"--coordinator {args.coordinator}", "process 0 did not answer there"
    return f"{place}: {said} within --timeout {args.timeout} seconds. Start all processes; check address and network."


def agree(said: str) -> None:
    """Refuses to go on if another process says something else about its options or its text."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(said.encode()).digest()[:8], np.uint32)
    heard = np.asarray(multihost_utils.process_allgather(digest)).reshape(jax.process_count(), -1)
    others = [k for k, row in enumerate(heard) if (row != heard[0]).any()]
    if others:
        raise BadInput(f"options or text of process {', '.join(map(str, others))} differ from those of process 0. "
                       "Start all with the same command but for --process, and with the same files.")  # fmt: skip


@contextmanager
def together(work: str) -> Iterator[None]:
    """Waits until all have done some work, however long one takes. What one refuses all refuse, in its words."""
    said = b""
    try:
        yield
    except BadInput as error:
        said = str(error).encode()
    ocp.multihost.get_barrier_sync_fn()(key=work, timeout_ms=WEEK)  # ends before if a process dies
    padded = np.frombuffer(said[:LONGEST].ljust(LONGEST, b"\0"), np.uint8)
    heard = np.asarray(multihost_utils.process_allgather(padded)).reshape(jax.process_count(), -1)
    for refusal in heard[heard.any(axis=1)]:
        raise BadInput(refusal.tobytes().rstrip(b"\0").decode(errors="ignore"))


def gather(tree: Any) -> Any:
    """The whole arrays in the memory of each host, one after another: all at once may be too large for a device."""
    return multihost_utils.process_allgather(tree, tiled=True)
