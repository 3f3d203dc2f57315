"""Records of runs: a file of JSON lines an arm, a line a run. A run that was cut off has no line."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.errors import BadInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One finished training run."""

    claim: str
    arm: str
    scale: str
    phase: str
    """``sweep`` or ``final``."""
    rate: float
    seed: int
    steps: int
    curve: Mapping[str, Sequence[float | None]]
    """``step``, ``seconds`` (of training alone; on CPUs those of the processor), ``train_loss``, ``gradient_norm``, and
    what evaluation gave."""
    diverged: int | None = None
    """The step by which loss or gradient were no numbers any more."""
    test: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parameters: int = 0
    data: str = ""
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The scale: hidden features, batch and so on."""
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Versions, machine, revision."""


class Records:
    """The records of one claim: ``FOLDER/CLAIM/records/ARM.jsonl``."""

    def __init__(self, folder: Path, claim: str) -> None:
        self.folder = folder / claim
        self._lines = self.folder / "records"

    def runs(self, arms: Iterable[str] | None = None) -> list[Run]:
        """All finished runs; of the given arms, in their order."""
        if arms is None:
            arms = sorted(file.stem for file in self._lines.glob("*.jsonl"))
        return [run for arm in arms for run in self._read(arm)]

    def exist(self) -> bool:
        """Whether there is any record."""
        return any(self._lines.glob("*.jsonl"))

    def add(self, run: Run) -> None:
        """Appends a run, all of its line or nothing that counts."""
        self._lines.mkdir(parents=True, exist_ok=True)
        with open(self._file(run.arm), "a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(run), allow_nan=False, default=float) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def repair(self, arm: str) -> None:
        """Drops a last line that a kill cut short."""
        file = self._file(arm)
        if file.exists() and (text := file.read_text(encoding="utf-8")) and not text.endswith("\n"):
            whole = text[: text.rfind("\n") + 1]
            temporary = file.with_suffix(".tmp")
            temporary.write_text(whole, encoding="utf-8")
            os.replace(temporary, file)

    def _file(self, arm: str) -> Path:
        return self._lines / f"{arm}.jsonl"

    def _read(self, arm: str) -> list[Run]:
        file = self._file(arm)
        if not file.exists():
            return []
        lines = file.read_text(encoding="utf-8").split("\n")
        runs = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or was cut short
            try:
                runs.append(Run(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise BadInput(f"{file}, line {number}: not a record ({error}). Remove the line; its run is made anew "
                               "by --resume.") from error  # fmt: skip
        return runs
