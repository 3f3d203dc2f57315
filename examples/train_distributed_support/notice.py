"""The notice that a machine is taken back: SIGTERM, as clusters send before they do."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import orbax.checkpoint as ocp


@contextmanager
def heard() -> Iterator[Callable[[int], bool]]:
    """Yields whether to end after a step. Several processes end after the same one if any of them is told."""
    if jax.distributed.is_initialized():  # JAX listens, and tells the others
        yield ocp.multihost.reached_preemption
        return
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield lambda step: told.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
