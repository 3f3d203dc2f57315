"""The files of a demo: options, runs that have ended, checkpoints. What is on disk is whole at every moment."""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .checkpoints import Checkpoints
from .errors import BadInput

NOT_CONFIGURATION = ("out", "resume", "overwrite", "processes")
RESULTS = ("curves.png", "rates.png", "metrics.jsonl", "samples.txt")


def stored_options(out: str) -> dict[str, Any] | None:
    """The options of the run that a folder holds, its text among them; None where there is no run."""
    config = Path(out) / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadInput(f"--out {out}: {config} cannot be read ({error.strerror}). Check the permissions.") from error
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"--out {out}: {config} is damaged. Begin again with --overwrite.")
    return found


class Run(NamedTuple):
    """One training from the first to the last step, at a learning rate."""

    rate: float
    seed: int | None = None
    """None in the sweep, whose seed is not used again."""

    @property
    def phase(self) -> str:
        return "sweep" if self.seed is None else "final"

    @property
    def name(self) -> str:
        """The name of its file: a seed is trained at one rate only."""
        return f"sweep-{self.rate}" if self.seed is None else f"final-{self.seed}"

    def describe(self) -> str:
        return f"tries {self.rate:g}" if self.seed is None else f"seed {self.seed}, {self.rate:g}"


class RunFolder:
    """The output folder, opened for a new run or for one that goes on.

    ``config.json`` says what is trained on what, ``models/MODEL/RUN.json`` what came of a run that has ended,
    ``models/MODEL/checkpoints/RUN/STEP`` hold all that a run under way needs. One process at a time writes for a model.
    """

    def __init__(self, args: argparse.Namespace, sha256: str) -> None:
        self.path = Path(args.out)
        config = {key: value for key, value in vars(args).items() if key not in NOT_CONFIGURATION}
        config["data"] = args.data and str(Path(args.data).resolve())  # to be found from anywhere
        config["text_sha256"] = sha256
        before = None if args.overwrite else stored_options(args.out)
        if before is not None:
            self._check_same(before, config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if before is None:
                self._discard()
                self.write("config.json", json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise BadInput(
                f"--out {args.out}: cannot be written ({error.strerror}). Choose a folder that you may write to."
            ) from error

    def _discard(self) -> None:
        """The runs all at once, by a rename: a kill in the midst must not leave some for the next run to find."""
        old, discarded = self.path / "models", self.path / "models.discarded"
        shutil.rmtree(discarded, ignore_errors=True)
        if old.exists():
            old.rename(discarded)
            shutil.rmtree(discarded)
        for name in RESULTS:
            (self.path / name).unlink(missing_ok=True)

    def _check_same(self, before: dict[str, Any], config: dict[str, Any]) -> None:
        changes = [f"{k} was {before.get(k)}, is {config.get(k)}" for k in {**before, **config}
                   if before.get(k) != config.get(k) and k != "data"]  # fmt: skip
        if changes:
            raise BadInput(
                f"--out {self.path}: there is another run already ({'; '.join(changes)}). Go on with it with --resume "
                "and no other option, replace it with --overwrite, or choose another folder."
            )

    def write(self, name: str, content: str) -> None:
        """Replaces a file in one step, so that nobody ever sees half of it."""
        with self.replaced(name) as temporary:
            temporary.write_text(content, encoding="utf-8")

    @contextmanager
    def replaced(self, name: str) -> Iterator[Path]:
        """A place to write to, which then takes the place of a file."""
        temporary = self.path / (name + ".tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, self.path / name)

    def result(self, model: str, run: Run) -> dict[str, Any] | None:
        """What came of a run; None if it has not ended."""
        file = self.path / "models" / model / f"{run.name}.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def finish(self, model: str, run: Run, result: dict[str, Any]) -> None:
        """A run has ended."""
        self.write(f"models/{model}/{run.name}.json", json.dumps(result) + "\n")

    def checkpoints(self, model: str, run: Run) -> Checkpoints:
        return Checkpoints(self.path / "models" / model / "checkpoints" / run.name)
