"""``python -m experiments list | run NAME ... | run all | report``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.claims import NAMES, claim_named
from experiments.harness import report
from experiments.harness.claim import SCALES, Claim
from experiments.harness.errors import BadInput
from experiments.harness.records import Records
from experiments.harness.summary import judge, summarize
from experiments.harness.workers import Job, cores, run_jobs, run_smoke

RESULTS = Path(__file__).parent / "results"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}. See --help.")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m experiments", description="Reruns what the papers claim of normalization.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what there is, and what has been run")
    run = actions.add_parser("run", help="run experiments, all arms and seeds")
    add = run.add_argument
    add("names", nargs="+", metavar="NAME", help=f"all, or any of {', '.join(NAMES)}")
    add("--scale", choices=SCALES, default="small", help="sizes: small (hours of two cores for all), paper, or smoke "
        "(seconds, to see that it runs)")  # fmt: skip
    add("--smoke", action="store_const", dest="scale", const="smoke", help="short for --scale smoke")
    add("--seeds", type=_positive, metavar="N", help="final runs of each arm (default: what the claim asks for)")
    add("--data", type=Path, metavar="FOLDER", help="folder with the data sets; without it, what is installed is read")
    add("--arms", nargs="+", metavar="ARM", help="only these arms (one experiment)")
    add("--resume", action="store_true", help="keep finished runs, and go on with what a kill cut off")
    add(
        "--processes",
        type=_positive,
        metavar="N",
        default=len(cores()),
        help="side by side, a core each (default: all)",
    )
    reported = actions.add_parser("report", help="docs/evidence.md, README, summaries and pictures from records")
    for action, default in ((listed, RESULTS), (run, Path("runs/experiments")), (reported, RESULTS)):
        action.add_argument(
            "--out", type=Path, default=default, metavar="FOLDER", help=f"records (default: {default.name})"
        )
    return parser.parse_args(argv)


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above zero, got {word!r}")
    return int(word)


def _list(args: argparse.Namespace, console: Console) -> int:
    claims = [claim_named(name) for name in NAMES]
    found = {claim.name: summarize(claim, args.out) for claim in claims}
    judged = judge([summary for summary in found.values() if summary is not None])
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("#", "name", "claim", "seeds", "result"):
        table.add_column(title)
    for claim in claims:
        summary = found[claim.name]
        seeds = f"{0 if summary is None else len(summary.differences)}/{claim.seeds}"
        table.add_row(
            str(claim.number), claim.name, claim.claim, seeds, judged[claim.name][1] if claim.name in judged else ""
        )
    console.print(table)
    return 0


def _run(args: argparse.Namespace, console: Console) -> int:
    names = list(NAMES) if args.names == ["all"] else list(dict.fromkeys(args.names))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise BadInput(f"run: no experiment is called {', '.join(unknown)}. Choose all, or from {', '.join(NAMES)}.")
    if args.data is not None and not args.data.is_dir():
        raise BadInput(f"--data {args.data}: there is no such folder. Check the path, or leave --data out.")
    claims = [claim_named(name) for name in names]
    for claim in claims:
        _check(claim, args)
        claim.load(args.data, claim.scales[args.scale])  # what is wrong with the data is said before anything runs
    jobs = [
        Job(claim.name, arm, args.scale, args.data, args.out, args.seeds)
        for claim in claims
        for arm in args.arms or claim.arms_of(args.scale)
    ]
    failed = run_smoke(jobs, console) if args.scale == "smoke" else run_jobs(jobs, args.processes, console)
    for claim in claims:
        summary = summarize(claim, args.out)
        if summary is not None:
            judged = judge([summary]).get(claim.name)
            for line in report.section(claim, summary, judged):
                console.print(line, markup=False, highlight=False)
    console.print(
        f"records in {args.out}; a page of them: python -m experiments report --out {args.out}", highlight=False
    )
    if failed:
        print(f"error: failed: {', '.join(failed)}. Go on with --resume.", file=sys.stderr)
    return 1 if failed else 0


def _check(claim: Claim, args: argparse.Namespace) -> None:
    unknown = [arm for arm in args.arms or () if arm not in claim.arms]
    if unknown:
        raise BadInput(f"--arms: {claim.name} has no arm {', '.join(unknown)}. Choose from {', '.join(claim.arms)}.")
    records = Records(args.out, claim.name)
    if not records.exist():
        return
    if not args.resume:
        raise BadInput(f"--out {args.out}: has records of {claim.name}. Go on with --resume, or give another --out.")
    other = {run.scale for run in records.runs()} - {args.scale}
    if other:
        raise BadInput(f"--out {args.out}: its records of {claim.name} are of scale {', '.join(sorted(other))}, not "
                       f"{args.scale}. Give that --scale, or another --out.")  # fmt: skip


def _report(args: argparse.Namespace, console: Console) -> int:
    claims = [claim_named(name) for name in NAMES]
    if not any(Records(args.out, claim.name).exist() for claim in claims):
        raise BadInput(f"--out {args.out}: has no records. Run an experiment first: python -m experiments run NAME.")
    for path in report.write(claims, args.out):
        console.print(str(path), highlight=False)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, 1 if an arm failed, 2 after bad input."""
    console = Console()
    console = console if console.is_terminal else Console(width=110)
    try:
        args = _parse(argv)
        return {"list": _list, "run": _run, "report": _report}[args.action](args, console)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
