"""Compares two results: ``python -m benchmarks.compare OLD NEW``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.errors import Parser, exit_code
from benchmarks.results import Row, read


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return exit_code(lambda: _compare(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("old", type=Path, help="a results folder, or its results.csv")
    parser.add_argument("new", type=Path, help="likewise")
    return parser.parse_args(argv)


def _compare(args: argparse.Namespace) -> int:
    old, new = ({row.key: row for row in read(path)} for path in (args.old, args.new))
    plain = Console()
    console = plain if plain.is_terminal else Console(width=140)
    both = [key for key in new if key in old]
    if both:
        console.print(table([(old[key], new[key]) for key in both]))
    for name, only in (("OLD", old.keys() - new.keys()), ("NEW", new.keys() - old.keys())):
        for key in sorted(only):
            console.print(f"only in {name}: {' '.join(key)}", markup=False, highlight=False)
    return 0


def table(pairs: Sequence[tuple[Row, Row]]) -> Table:
    """One line for each program; a ratio below one says that it has become faster."""
    result = Table(title="new / old", box=None, header_style="bold", padding=(0, 1))
    for name in Row._fields[:6]:
        result.add_column(name, no_wrap=True)
    for name in ("old, ms", "new, ms", "median", "min"):
        result.add_column(name, justify="right", no_wrap=True)
    for old, new in pairs:
        median, least = new.median_ms / old.median_ms, new.min_ms / old.min_ms
        color = "green" if median < 0.95 else "red" if median > 1.05 else "default"
        result.add_row(
            *new.key,
            f"{old.median_ms:.4g}",
            f"{new.median_ms:.4g}",
            f"[{color}]{median:.3f}[/]",
            f"{least:.3f}",
        )
    return result


if __name__ == "__main__":
    sys.exit(main())
