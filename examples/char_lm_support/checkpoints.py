"""Checkpoints of a run under way: what is on disk is whole, or is not used."""

import copy
import hashlib
import logging
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


class Progress(NamedTuple):
    """How far a run has come, besides its arrays: what the curves are made of."""

    records: list[dict[str, Any]]
    bits: list[float]
    """The training losses since the last record."""
    seconds: float


class Checkpoints:
    """The checkpoints of one run: orbax writes them in the background and commits each by a rename.

    Each carries a digest of its arrays. One that is damaged or incomplete, however it came about, is never used:
    the one before it is.
    """

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder.resolve()
        self._manager: ocp.CheckpointManager | None = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:  # a short run saves nothing, and needs no manager
            self._manager = ocp.CheckpointManager(
                self._folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
            )
        return self._manager

    def save(self, step: int, state: Any, progress: Progress) -> None:
        # A copy: orbax writes in the background, while training goes on to change the lists.
        about = {"digest": _digest(state), "progress": copy.deepcopy(progress._asdict())}
        self._open().save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        )

    def restore(self, like: Any) -> tuple[Any, Progress] | None:
        """The newest whole checkpoint as (state, progress); None if there is none."""
        if not self._folder.exists():
            return None
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore())
        for step in sorted(self._open().all_steps(), reverse=True):
            try:
                found = self._open().restore(step, args=wanted)
                if _digest(found.state) != found.about["digest"]:
                    raise ValueError("its digest is another one")
                return found.state, Progress(**found.about["progress"])
            except Exception as error:  # whatever orbax finds wrong with it
                print(f"checkpoint {step} is not whole and is left out ({type(error).__name__})", file=sys.stderr)
                self._open().delete(step)
        return None

    def close(self, *, discard: bool = False) -> None:
        """Waits for what is being written; then drops everything if ``discard``."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        if discard:
            shutil.rmtree(self._folder, ignore_errors=True)


def _digest(state: Any) -> str:
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        raw = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        total.update(np.ascontiguousarray(raw).tobytes())
    return total.hexdigest()
