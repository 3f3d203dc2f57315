"""One program at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other programs out of a folder until this one ends, in whatever way."""
    try:
        import fcntl
    except ImportError:  # Windows has other locks
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise BadInput(
            f"--out {folder}: cannot be written ({error.strerror}). Choose a folder that you may write to."
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"--out {folder}: another program is at work there. Wait for it, or choose another folder."
            ) from error
        yield
    finally:
        os.close(handle)  # which gives the lock back
