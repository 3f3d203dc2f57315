"""Writes the table of errors: ``python -m benchmarks.accuracy``."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.accuracy.inputs import KINDS, ROWS, SIZES, Kind, rows_of
from benchmarks.accuracy.layouts import LAYOUTS, Layout
from benchmarks.accuracy.libraries import PEERS
from benchmarks.accuracy.measure import MASKS, Errors, Setting, measure
from benchmarks.accuracy.table import Row, misses, table
from benchmarks.errors import Parser, check_names, exit_code
from benchmarks.programs import why_missing

OUT = Path(__file__).parents[1] / "results" / "accuracy.md"
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
    cases = list(itertools.product(("float32", "bfloat16"), (LAYOUTS[name] for name in args.norms), KINDS))
    rows: list[Row] = []
    for dtype, layout, kind in track(cases, console=console, description="kinds of data"):
        if dtype == "float32" or not kind.only_float32:
            for mask, library in itertools.product(MASKS, libraries):
                errors = _worst(dtype, layout, kind, mask, library, args.sizes)
                if errors is not None:
                    rows.append(Row(dtype, layout.name, kind, mask, library, errors))
    parts = [f"## {dtype}\n\n{table(rows, dtype)}" for dtype in ("float32", "bfloat16")]
    missed = misses(rows)
    if missed:
        parts.append("## Above the aim in float32\n\n" + "".join(f"- {line}\n" for line in missed))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("# Accuracy\n\n" + "\n".join(parts), encoding="utf-8")
    print(f"{len(rows)} rows in {args.out}; {len(missed)} above the aim")
    return 0


def _worst(dtype: str, layout: Layout, kind: Kind, mask: str, library: str, sizes: Sequence[int]) -> Errors | None:
    """The largest errors over all sizes and both ways of compiling."""
    found = []
    for size, level in itertools.product(sizes, LEVELS):
        x, cotangent = rows_of(kind, ROWS if size < 100_000 else ROWS // 2, size, dtype)
        with np.errstate(all="ignore"):
            errors = measure(library, layout, kind, Setting(mask, level), x, cotangent)
        if errors is not None:
            found.append(errors)
    return Errors(max(e.values for e in found), max(e.gradients for e in found)) if found else None


if __name__ == "__main__":
    sys.exit(main())
