"""Measures jaxnorm beside other libraries: ``python -m benchmarks.run``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# JAX would take most of an accelerator's memory, and leave PyTorch too little.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import imports, machine, plots
from benchmarks.compete import compete
from benchmarks.errors import Parser, exit_code
from benchmarks.plan import GROUPS, KNOWN, Choice, Comparison, plan
from benchmarks.programs import is_ours, why_missing
from benchmarks.report import report
from benchmarks.results import Folder
from benchmarks.static import run as static

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 if a program of ours failed, 2 after bad input."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "static":
        return exit_code(lambda: static.main(words[1:]))
    return exit_code(lambda: _run(_parse(words)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.run", description=__doc__)
    add = parser.add_argument
    add(
        "groups",
        nargs="*",
        metavar="GROUP",
        help=f"what to measure: {', '.join(GROUPS)}; all if none is given; 'static --help' tells of the static figures",
    )
    for option in ("shapes", "models", "libraries", "dtypes", "directions"):
        add(f"--{option}", nargs="+", metavar="NAME", help=f"any of {', '.join(KNOWN[option])}")
    add("--rounds", type=_positive(int), help="runs of each program, at least (default: 5)")
    add("--seconds", type=_positive(float), help="time of each comparison, at least (default: 10; 0 with --rounds)")
    add("--out", type=Path, metavar="FOLDER", help="a new folder (default: benchmarks/results/DATE-DEVICE-CORES)")
    args = parser.parse_args(argv)
    if args.seconds is None:
        args.seconds = 10.0 if args.rounds is None else 0.0
    args.rounds = args.rounds or 5
    return args


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def convert(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a number above zero, got {word!r}")
        return value

    return convert


def _run(args: argparse.Namespace) -> int:
    asked = {name: getattr(args, name) for name in ("shapes", "models", "libraries", "dtypes", "directions")}
    comparisons = plan(Choice(groups=args.groups or GROUPS, **asked))
    console = Console(stderr=True)
    missing = {
        library: reason
        for library in dict.fromkeys(library for c in comparisons for library in c.libraries)
        if (reason := why_missing(library))
    }
    for library, reason in missing.items():
        console.print(f"{library} is left out: {reason}", markup=False, highlight=False)
    folder = Folder(args.out or RESULTS / machine.folder_name(), machine.describe())
    folder.left_out += [f"{library}: {reason}" for library, reason in missing.items()]
    failed = _measure(folder, comparisons, args.rounds, args.seconds, console)
    for name, draw in (("cells.png", plots.cells), ("growth.png", plots.growth)):
        picture = draw(folder.rows)
        if picture:
            folder.write(name, plots.png(picture))
    print(f"{len(folder.rows)} rows in {folder.path}")
    return 1 if any(is_ours(name.split()[0]) for name in failed) else 0


def _measure(
    folder: Folder, comparisons: Sequence[Comparison], rounds: int, seconds: float, console: Console
) -> list[str]:
    """Makes all comparisons, saving each; returns what failed."""
    failed: list[str] = []
    columns = (TextColumn("{task.description:<62}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(comparisons))
        for comparison in comparisons:
            progress.update(task, description=str(comparison))
            measure = imports.compete if comparison.group == "imports" else compete
            outcome = measure(comparison, rounds, seconds)
            folder.add(outcome.rows, outcome.unsupported + outcome.failed)
            folder.write("results.md", report(folder.rows, folder.machine, folder.left_out))
            failed += outcome.failed
            progress.advance(task)
    return failed


if __name__ == "__main__":
    sys.exit(main())
