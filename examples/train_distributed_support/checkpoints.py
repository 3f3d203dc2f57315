"""Checkpoints that all processes write together, in the background, and that other processes read on another mesh.

Orbax writes into a folder with another name and renames it once every process has written its part: what has a name is
whole. Each device writes its own part of an array; a reader takes the parts that its mesh asks for.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp
from char_lm_support.errors import BadInput


class Progress(NamedTuple):
    """How far a run has come, besides its arrays."""

    data: dict[str, Any]
    """The state of the iterator over the text: the same number in every process."""
    bits: list[float]
    """Losses since the last line of metrics."""
    seconds: float


class Checkpoints:
    """The last two checkpoints of a run."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        )

    def restore(self, like: Any) -> tuple[Any, Progress] | None:
        """The newest checkpoint, laid out as ``like`` (shapes with shardings); None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore())
        try:
            found = self._manager.restore(step, args=wanted)
        except Exception as error:  # whatever orbax finds wrong with it
            raise BadInput(
                f"checkpoint {self._folder / str(step)} cannot be read ({type(error).__name__}). Delete that folder to "
                "go on from the one before, or begin again with --overwrite."
            ) from error
        return found.state, Progress(**found.about)

    def save(self, step: int, state: Any, progress: Progress) -> None:
        """Copies the arrays, and writes them in the background."""
        about = progress._replace(bits=list(progress.bits))._asdict()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        self._manager.save(step, args=args, force=True)

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()
