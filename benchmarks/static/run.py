"""Counts what compiled programs say of themselves, for TPUs and CUDA cards that need not be there."""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.errors import BadInput, Parser
from benchmarks.static.cases import LIBRARIES, MODELS, SPREADS, Case, Choice, plan, with_schedule
from benchmarks.static.records import Records
from benchmarks.static.report import report
from benchmarks.static.targets import TARGETS, why_missing

ROOT = Path(__file__).parents[2]
PACKAGES = {"tpu": ("libtpu",), "cuda": ("jax-cuda12-plugin", "jax-cuda13-plugin")}


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns 0, or 1 if a case failed."""
    args = _parse(argv)
    asked = {name: getattr(args, name) for name in ("targets", "shapes", "models", "libraries", "spreads")}
    cases = _possible(plan(Choice(**asked, smoke=args.smoke)), explicit=args.targets is not None)
    records = Records(args.out or ROOT / "benchmarks" / "results" / f"{datetime.date.today().isoformat()}-static")
    left = [case for case in cases if args.again or case not in records.figures]
    for platform in dict.fromkeys(TARGETS[case.target].platform for case in left):
        records.compiled_with(platform, machine.versions(PACKAGES[platform]))
    commit = machine.commit()
    for place, case in enumerate(left, 1):
        print(f"{place}/{len(left)} {case}", file=sys.stderr, flush=True)
        figures = compile_apart(case)
        records.add(case, figures if isinstance(figures, str) else {**figures, "commit": commit})
        records.write("results.md", report(records))
    print(f"{len(records.figures)} cases in {records.path}")
    for case, why in records.failed.items():
        print(f"failed: {case}: {why}", file=sys.stderr)
    return 1 if records.failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.run static", description=__doc__)
    add = parser.add_argument
    for option, known in {"targets": TARGETS, "models": MODELS, "libraries": LIBRARIES, "spreads": SPREADS}.items():
        add(f"--{option}", nargs="+", metavar="NAME", help=f"any of {', '.join(known)}")
    add("--shapes", nargs="+", metavar="SHAPE", help="batch, steps, inputs, hidden features, like 256x512x512x512")
    add("--smoke", action="store_true", help="one small shape, to see that everything works")
    add("--again", action="store_true", help="compile again what the folder has figures of")
    add("--out", type=Path, metavar="FOLDER", help="default: benchmarks/results/DATE-static; a run adds to it")
    return parser.parse_args(argv)


def _possible(cases: list[Case], *, explicit: bool) -> list[Case]:
    """The cases that can be compiled here; targets that were asked for by name must be among them."""
    missing = {
        platform: reason
        for platform in dict.fromkeys(TARGETS[case.target].platform for case in cases)
        if (reason := why_missing(platform))
    }
    possible = [case for case in cases if TARGETS[case.target].platform not in missing]
    if missing and (explicit or not possible):
        raise BadInput(" ".join(missing.values()))
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    return possible


def compile_apart(case: Case) -> dict[str, Any] | str:
    """The figures of a case from processes of their own, or why there are none."""
    figures = _child(case)
    if isinstance(figures, str) or not with_schedule(case):
        return figures
    with tempfile.TemporaryDirectory() as folder:
        schedule = _child(case, folder)
    return schedule if isinstance(schedule, str) else {**figures, **schedule}


def _child(case: Case, *words: str) -> dict[str, Any] | str:
    command = [sys.executable, "-m", "benchmarks.static.compile", json.dumps(case), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"the process ended with {done.returncode}"
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
