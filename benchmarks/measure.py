"""Timing side by side, and the memory that one run needs."""

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

PAUSE = 0.005
"""Seconds before each run, in which the threads of the program before go to sleep."""


def interleaved(programs: Mapping[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of every run of every program.

    In each round every program runs once, so that what disturbs the machine disturbs all of them. From round to round
    the order turns and is reversed, so that no program always follows the same one. Rounds go on until there are
    enough of them and the time is up.
    """
    names = list(programs)
    times: dict[str, list[float]] = {name: [] for name in names}
    done = 0
    with _no_garbage_collection():
        end = time.perf_counter() + seconds
        while done < rounds or time.perf_counter() < end:
            first = done % len(names)
            order = names[first:] + names[:first]
            for name in order if done % 2 == 0 else reversed(order):
                time.sleep(PAUSE)
                start = time.perf_counter()
                result = programs[name]()
                times[name].append(time.perf_counter() - start)
                del result
            done += 1
    return times


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def peak_bytes(run: Callable[[], Any]) -> int | None:
    """How far one run goes above the memory in use before it, its results included; None where that is not known.

    On a CPU it is resident memory, on Linux only; on an accelerator what the program itself does not tell JAX about,
    for example PyTorch's, is not seen.
    """
    return _resident_peak(run) if jax.default_backend() == "cpu" else _device_peak(run)


def _device_peak(run: Callable[[], Any]) -> int | None:
    """The device keeps the highest mark since it was started, so only a run that goes above it is known."""
    device = jax.devices()[0]
    before = device.memory_stats() or {}
    run()
    after = device.memory_stats() or {}
    mark = "peak_bytes_in_use"
    if after.get(mark, 0) <= before.get(mark, 0):
        return None
    return int(after[mark] - before["bytes_in_use"])


def _resident_peak(run: Callable[[], Any]) -> int | None:
    try:
        _give_back_free_memory()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
        before = _status("VmRSS")
    except (OSError, KeyError):
        run()
        return None
    result = run()
    peak = _status("VmHWM")
    del result
    return max(peak - before, 0)


def _give_back_free_memory() -> None:
    """Freed memory that the allocator keeps would hide what a run needs."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    """Bytes from the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(values[field].split()[0]) * 1024
