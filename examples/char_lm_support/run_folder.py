"""The files of a run: configuration, checkpoints, metrics. What is on disk is whole at every moment."""

import argparse
import copy
import hashlib
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from .errors import BadInput

NOT_CONFIGURATION = ("data", "out", "resume", "overwrite", "smoke")


class Progress(NamedTuple):
    """How far a model has come, besides its arrays: what the curves are made of."""

    records: list[dict[str, Any]]
    bits: list[float]
    """The training losses since the last record."""
    seconds: float


class RunFolder:
    """The output folder, opened for a new run or for one that goes on.

    ``config.json`` says what is trained on what; ``checkpoints/MODEL/STEP`` hold all that training needs;
    ``metrics.jsonl`` has one object a line and always agrees with the checkpoints it was resumed from.
    """

    def __init__(self, args: argparse.Namespace, sha256: str) -> None:
        self.path = Path(args.out)
        config = {key: value for key, value in vars(args).items() if key not in NOT_CONFIGURATION}
        config["text_sha256"] = sha256
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._config.exists() and not args.overwrite:
                self._check_same(config, args.resume)
            else:
                self._discard_checkpoints()
            self.write("config.json", json.dumps(config, indent=2) + "\n")
            self.write("metrics.jsonl", "")
        except OSError as error:
            raise BadInput(
                f"--out {args.out}: cannot be written ({error.strerror}). Choose a folder that you may write to."
            ) from error

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    def _discard_checkpoints(self) -> None:
        """All at once, by a rename: a kill in the midst must not leave some for the next run to find."""
        old, discarded = self.path / "checkpoints", self.path / "checkpoints.discarded"
        shutil.rmtree(discarded, ignore_errors=True)
        if old.exists():
            old.rename(discarded)
            shutil.rmtree(discarded)

    def _check_same(self, config: dict[str, Any], resume: bool) -> None:
        if not resume:
            raise BadInput(
                f"--out {self.path}: there is a run already. Go on with --resume, replace it with --overwrite, "
                "or choose another folder."
            )
        try:
            before = json.loads(self._config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BadInput(f"--resume: {self._config} is damaged. Begin again with --overwrite.") from error
        changes = [f"{k} was {before.get(k)}, is {config.get(k)}" for k in {**before, **config}
                   if before.get(k) != config.get(k)]  # fmt: skip
        if changes:
            raise BadInput(
                f"--resume: the run in {self.path} is another one ({'; '.join(changes)}). "
                "Give its options and its text, or another --out."
            )

    def write(self, name: str, content: str) -> None:
        """Replaces a file in one step, so that nobody ever sees half of it."""
        temporary = self.path / (name + ".tmp")
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, self.path / name)

    def record(self, *records: dict[str, Any]) -> None:
        """Adds lines to the metrics."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))

    def checkpoints(self, model: str) -> "Checkpoints":
        return Checkpoints(self.path / "checkpoints" / model)


class Checkpoints:
    """The checkpoints of one model: orbax writes them in the background and commits each by a rename.

    Each carries a digest of its arrays. One that is damaged or incomplete, however it came about, is never used:
    the one before it is.
    """

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = ocp.CheckpointManager(
            folder.resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        )

    def save(self, step: int, state: Any, progress: Progress) -> None:
        # A copy: orbax writes in the background, while training goes on to change the lists.
        about = {"digest": _digest(state), "progress": copy.deepcopy(progress._asdict())}
        self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about))
        )

    def restore(self, like: Any) -> tuple[Any, Progress] | None:
        """The newest whole checkpoint as (state, progress); None if there is none."""
        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(like), about=ocp.args.JsonRestore())
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = self._manager.restore(step, args=wanted)
                if _digest(found.state) != found.about["digest"]:
                    raise ValueError("its digest is another one")
                return found.state, Progress(**found.about["progress"])
            except Exception as error:  # whatever orbax finds wrong with it
                print(f"checkpoint {step} is not whole and is left out ({type(error).__name__})", file=sys.stderr)
                self._manager.delete(step)
        return None

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()


def _digest(state: Any) -> str:
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        raw = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        total.update(np.ascontiguousarray(raw).tobytes())
    return total.hexdigest()
