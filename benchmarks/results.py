"""A folder of results. What is on disk is whole at every moment."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import BadInput

CSV = "results.csv"


class Row(NamedTuple):
    """One program, measured."""

    group: str
    shape: str
    model: str
    library: str
    dtype: str
    direction: str
    min_ms: float
    median_ms: float
    rounds: int
    xla_temp_bytes: int | None
    peak_bytes: int | None
    compile_s: float | None
    ratio_to_best_peer: float | None

    @property
    def key(self) -> tuple[str, ...]:
        """What was measured."""
        return self[:6]


def series(row: Row) -> str:
    """The series of a row of the growth group, whose shapes are named like "growing-steps:4x128x128x128"."""
    return row.shape.partition(":")[0]


def steps(row: Row) -> int:
    """T of a row of the growth group."""
    return int(row.shape.rpartition(":")[2].split("x")[1])


class Folder:
    """Takes rows as they come; everything is written anew each time, each file in one step."""

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path = path
        self.machine = machine
        self.rows: list[Row] = []
        self.left_out: list[str] = []
        if (path / CSV).exists():
            raise BadInput(f"--out {path}: there are results already. Choose another folder, or remove this one.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._save_machine()
        except OSError as error:
            raise BadInput(f"--out {path}: cannot be written ({error.strerror}). Choose another folder.") from error

    def add(self, rows: Iterable[Row], left_out: Iterable[str]) -> None:
        """Adds the rows of a comparison, and what could not be measured."""
        self.rows += rows
        self.left_out += left_out
        self.write(CSV, to_csv(self.rows))
        self._save_machine()

    def _save_machine(self) -> None:
        self.write("machine.json", json.dumps({**self.machine, "left_out": self.left_out}, indent=2) + "\n")

    def write(self, name: str, content: str | bytes) -> None:
        """Replaces a file."""
        temporary = self.path / f".{name}.tmp"
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(temporary, self.path / name)


def to_csv(rows: Iterable[Row]) -> str:
    """A header and a line for each row; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows([f"{value:.5g}" if isinstance(value, float) else value for value in row] for row in rows)
    return text.getvalue()


def read(path: Path) -> list[Row]:
    """The rows of a results folder, or of a CSV file.

    Raises:
      BadInput: there is no such file, or it holds something else.
    """
    file = path / CSV if path.is_dir() else path
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if tuple(reader.fieldnames or ()) != Row._fields:
                raise ValueError("another header")
            return [_parse(record) for record in reader]
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}).") from error
    except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: these are no results of benchmarks.run.") from error


def _parse(record: dict[str, str]) -> Row:

    def number(name: str, kind: type) -> Any:
        return kind(record[name]) if record[name] else None

    return Row(
        group=record["group"],
        shape=record["shape"],
        model=record["model"],
        library=record["library"],
        dtype=record["dtype"],
        direction=record["direction"],
        min_ms=float(record["min_ms"]),
        median_ms=float(record["median_ms"]),
        rounds=int(record["rounds"]),
        xla_temp_bytes=number("xla_temp_bytes", int),
        peak_bytes=number("peak_bytes", int),
        compile_s=number("compile_s", float),
        ratio_to_best_peer=number("ratio_to_best_peer", float),
    )
