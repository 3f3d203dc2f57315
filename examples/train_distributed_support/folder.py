"""The files of a run besides its checkpoints: options and metrics. Process 0 writes, all others read."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from char_lm_support.errors import BadInput
from char_lm_support.run_folder import stored_options

from . import options

NAMES = {"steps": "--steps (over which the learning rate falls)", "text_sha256": "the sum of the text"}
"""Of what was not typed, or does not speak for itself."""


class Folder:
    """``config.json`` says what is trained on what, ``metrics.jsonl`` how it went, ``checkpoints`` where it is."""

    def __init__(self, out: str) -> None:
        self.path = Path(out)

    @property
    def checkpoints(self) -> Path:
        return self.path.resolve() / "checkpoints"

    def stored(self) -> dict[str, Any] | None:
        return stored_options(str(self.path))

    def check_same(self, config: dict[str, Any]) -> None:
        """Refuses another run's folder. The data may lie elsewhere; its text may not differ."""
        before = self.stored()
        if before is None:
            return
        free = ("data", *options.REPORTS)
        changes = [f"{NAMES.get(name, options.typed(name))} was {before.get(name)}, is {value}"
                   for name, value in config.items() if before.get(name) != value and name not in free]  # fmt: skip
        if changes:
            raise BadInput(
                f"--out {self.path}: there is another run already ({'; '.join(changes)}). Go on with it with --resume "
                "and without these options, replace it with --overwrite, or choose another folder."
            )

    def begin(self, config: dict[str, Any], *, overwrite: bool) -> None:
        """Writes the options; with ``overwrite`` what was there before goes first, in one step."""
        old, discarded = self.checkpoints, self.path / "checkpoints.discarded"
        shutil.rmtree(discarded, ignore_errors=True)
        if overwrite and old.exists():
            old.rename(discarded)
            shutil.rmtree(discarded)
        self._replace("config.json", json.dumps(config, indent=2) + "\n")

    def keep_metrics(self, step: int) -> None:
        """Drops lines after a step: those that a run which was killed had made beyond its last checkpoint."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        whole = [line for line in lines if line.endswith("}\n")]
        self._replace("metrics.jsonl", "".join(line for line in whole if json.loads(line)["step"] <= step))

    def add_metrics(self, record: dict[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def write(self, name: str, content: str) -> None:
        self._replace(name, content)

    def _replace(self, name: str, content: str) -> None:
        temporary = self.path / (name + ".tmp")
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, self.path / name)
