"""Writes the table of errors: ``python -m benchmarks.accuracy``."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.accuracy.inputs import KINDS, SIZES, Kind
from benchmarks.accuracy.layouts import LAYOUTS
from benchmarks.accuracy.libraries import PEERS
from benchmarks.accuracy.measure import MASKS, Errors, Setting, case_of, measure
from benchmarks.accuracy.table import Row, misses, table
from benchmarks.errors import Parser, check_names, exit_code
from benchmarks.programs import why_missing

OUT = Path(__file__).parents[1] / "results" / "accuracy.md"
DTYPES = ("float32", "bfloat16")
LEVELS = (None, 0)
MODULES = {"Flax": "linen", "Flax, two passes": "linen", "Keras": "keras", "PyTorch": "torch"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, or 2 after bad input."""
    return exit_code(lambda: _run(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument(
        "--norms", nargs="+", metavar="NAME", default=list(LAYOUTS), help=f"any of {', '.join(LAYOUTS)}"
    )
    parser.add_argument("--sizes", nargs="+", type=int, metavar="N", default=list(SIZES), help="elements of a row")
    parser.add_argument("--out", type=Path, metavar="FILE", default=OUT, help=f"default: {OUT.name} in the results")
    args = parser.parse_args(argv)
    check_names("--norms", args.norms, LAYOUTS)
    if min(args.sizes) < 3:
        parser.error("argument --sizes: a row has at least three elements")
    return args


def _run(args: argparse.Namespace) -> int:
    console = Console(stderr=True)
    libraries = ["ours"]
    for library in PEERS:
        reason = why_missing(MODULES[library]) if library in MODULES else None
        if reason:
            console.print(f"{library} is left out: {reason}", markup=False, highlight=False)
        else:
            libraries.append(library)
    worst: dict[tuple[str, str, Kind, str, str], Errors] = {}
    # The kinds of one shape one after the other: they run the same programs.
    cases = list(itertools.product(DTYPES, (LAYOUTS[name] for name in args.norms), args.sizes, KINDS, MASKS))
    for dtype, layout, size, kind, mask in track(cases, console=console, description="digits"):
        if dtype != "float32" and kind.only_float32:
            continue
        case = case_of(kind, layout.center, mask, size, dtype)
        for library, level in itertools.product(libraries, LEVELS):
            errors = measure(library, layout, case, Setting(mask, level))
            if errors is not None:
                key = (dtype, layout.name, kind, mask, library)
                worst[key] = Errors(*map(max, errors, worst.get(key, errors)))
    rows = [Row(*key, errors) for key, errors in worst.items()]
    parts = [f"## {dtype}\n\n{table(rows, dtype)}" for dtype in DTYPES]
    missed = misses(rows)
    if missed:
        parts.append("## Above the aim in float32\n\n" + "".join(f"- {line}\n" for line in missed))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n".join(parts), encoding="utf-8")
    print(f"{len(rows)} rows in {args.out}; {len(missed)} above the aim")
    return 0


if __name__ == "__main__":
    sys.exit(main())
