"""A folder of figures. What is on disk is whole at every moment, and a later run adds to it."""

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.errors import BadInput
from benchmarks.static.cases import Case

FILE = "results.json"


class Records:
    """Figures by case, and for each platform the versions that they were compiled with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environments: dict[str, dict[str, str]] = {}
        self.figures: dict[Case, dict[str, Any]] = {}
        self.failed: dict[Case, str] = {}
        if (path / FILE).exists():
            self._read()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--out {path}: cannot be written ({error.strerror}). Choose another folder.") from error

    def _read(self) -> None:
        try:
            found = json.loads((self.path / FILE).read_text(encoding="utf-8"))
            self.environments = found["environments"]
            self.figures = {Case(*row.pop("case")): row for row in found["figures"]}
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{self.path / FILE}: these are no figures of benchmarks.run static.") from error

    def compiled_with(self, platform: str, versions: dict[str, str]) -> None:
        """Says what the figures to come are compiled with: a folder holds those of one set of versions.

        Raises:
          BadInput: there are figures of others.
        """
        if self.environments.setdefault(platform, versions) != versions:
            raise BadInput(
                f"--out {self.path}: its figures are of other versions. Choose another folder, or remove it."
            )

    def add(self, case: Case, figures: dict[str, Any] | str) -> None:
        """Takes the figures of a case, or why there are none."""
        if isinstance(figures, str):
            self.failed[case] = figures
        else:
            self.figures[case] = figures
        self.save()

    def save(self) -> None:
        """Writes everything."""
        rows = [{"case": list(case), **figures} for case, figures in self.figures.items()]
        lines = ",\n".join("  " + json.dumps(row) for row in rows)
        environments = json.dumps(self.environments, indent=1)
        self.write(FILE, f'{{"environments": {environments},\n"figures": [\n{lines}\n]}}\n')

    def write(self, name: str, content: str) -> None:
        """Replaces a file in one step."""
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(content, encoding="utf-8")
        os.replace(temporary, self.path / name)
