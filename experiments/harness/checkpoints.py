"""Checkpoints of the run that is under way, one folder an arm: orbax commits each by a rename."""

import contextlib
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

SECONDS = 60.0  # between two checkpoints


class Checkpoints:
    """Keeps the newest state of one arm's run, and what its curve was until then."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder.resolve()
        self._manager: ocp.CheckpointManager | None = None
        self._saved = time.monotonic()

    def save(self, step: int, state: Any, about: dict[str, Any]) -> None:
        """Writes a checkpoint, unless the last one is young."""
        if time.monotonic() - self._saved < SECONDS:
            return
        self._open().save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        )
        self._open().wait_until_finished()
        self._saved = time.monotonic()

    def restore(self, like: Any, which: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole checkpoint of the run that ``which`` names, or None."""
        if not self._folder.exists():
            return None
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore())
        for step in sorted(self._open().all_steps(), reverse=True):
            with contextlib.suppress(Exception):  # whatever orbax finds wrong with it: the one before is tried
                found = self._open().restore(step, args=wanted)
                if found.about["which"] == which:
                    return found.state, found.about
        return None

    def clear(self) -> None:
        """Drops all checkpoints: the run has its record."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        shutil.rmtree(self._folder, ignore_errors=True)
        self._saved = time.monotonic()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self._manager = ocp.CheckpointManager(
                self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
            )
        return self._manager
