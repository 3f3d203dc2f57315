"""The command line, and the options of a run that goes on."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from char_lm_support.arguments import Parser, above_zero, as_words, natural, number, positive, share
from char_lm_support.errors import BadInput
from char_lm_support.options import PRESETS
from char_lm_support.run_folder import stored_options

SMOKE = {"hidden": 8, "features": 8, "batch": 8, "window": 8, "passage": 2, "steps": 4, "warmup": 1, "log_every": 2,
         "eval_every": 4, "checkpoint_every": 2, "limit": 4_000, "sample": 20}  # fmt: skip
PLACE = ("out", "resume", "overwrite", "mesh", "cpu_devices", "coordinator", "processes", "process", "cluster",
         "timeout", "stop_at", "compile_for", "export", "smoke")  # fmt: skip
"""Options that say where a run takes place, and not what it computes: these may change from one start to the next."""
REPORTS = ("log_every", "eval_every", "checkpoint_every", "sample", "temperature")
"""Options that say what is told of a run: these are stored for --resume, and may change, too."""
IDLE = {
    "compile_for": ("export", "overwrite", "stop_at", "cpu_devices", "coordinator", "cluster"),
    "resume": ("smoke",),
}
"""Options that would do nothing beside another one."""
OWN = ("process", "coordinator", "cpu_devices", "timeout", "out", "data")
"""Options that may differ from process to process: one may reach the same place by another name."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line, and with --resume the folder; raises BadInput with one line if it makes no sense."""
    parser = _parser()
    first = parser.parse_args(argv)
    if first.resume:
        parser.set_defaults(**_stored(first.out))
    elif first.smoke:
        parser.set_defaults(**SMOKE)
    args = parser.parse_args(argv)
    args.features = args.features or args.hidden
    _check(args)
    return args


def configuration(args: argparse.Namespace) -> dict[str, Any]:
    """What a run computes and reports: what is stored."""
    return {name: value for name, value in vars(args).items() if name not in PLACE}


def shared(args: argparse.Namespace) -> dict[str, Any]:
    """What all processes must agree on, since they make every step, sum and file together."""
    return {name: value for name, value in vars(args).items() if name not in OWN}


def typed(name: str) -> str:
    """An option as it is typed."""
    return "--" + name.replace("_", "-")


def _check(args: argparse.Namespace) -> None:
    for main, others in IDLE.items():
        if idle := [typed(name) for name in others if getattr(args, main) and getattr(args, name)]:
            raise BadInput(f"{typed(main)}: {', '.join(idle)} would do nothing beside it. Leave out one or the other.")
    if args.cell not in PRESETS:
        raise BadInput(f"--cell: no preset is called {args.cell}. Choose from {', '.join(PRESETS)}.")
    if args.batch % args.accumulate:
        raise BadInput(f"--batch {args.batch} is no multiple of --accumulate {args.accumulate}. Change one of them.")
    if args.coordinator and (args.processes is None or args.process is None):
        raise BadInput("--coordinator: needs --processes N, and --process K, from 0 to N - 1. Give both.")
    if not args.coordinator and (args.processes is not None or args.process is not None):
        raise BadInput("--processes and --process belong to --coordinator HOST:PORT. Give it, or leave them out.")
    if args.coordinator and args.process >= args.processes:
        raise BadInput(f"--process {args.process}: {args.processes} processes are numbered from 0 to "
                       f"{args.processes - 1}. Give each its own number.")  # fmt: skip
    host, _, port = (args.coordinator or "localhost:1").rpartition(":")
    if not host or not port.isdecimal():
        raise BadInput(f"--coordinator {args.coordinator}: must be HOST:PORT, for example 10.0.0.1:1234.")


def _stored(out: str) -> dict[str, Any]:
    """The options of the run in a folder, read as if they were typed."""
    stored = stored_options(out)
    if stored is None:
        raise BadInput(f"--resume: there is no run in {out}. Leave --resume out to begin one, or give its --out.")
    for name in ("text_sha256", "last_mesh"):
        stored.pop(name, None)
    try:
        found = vars(_parser().parse_args(as_words(stored)))
        return {name: found[name] for name in stored}
    except (BadInput, KeyError) as error:
        raise BadInput(
            f"--resume: config.json in {out} makes no sense: {error} Begin again with --overwrite."
        ) from None


def _parser() -> Parser:
    parser = Parser(prog="train_distributed.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                    allow_abbrev=False, description="Trains a language model of normalized cells on one core, several "
                    "devices or several machines. A run that is in the folder already goes on.")  # fmt: skip
    what = parser.add_argument_group("what is trained")
    add = what.add_argument
    add("--data", type=_path, metavar="PATH", help="UTF-8 text (plain, .gz, .xz), or a folder with train and valid "
        "files; the Python language reference if not given")  # fmt: skip
    add("--unit", choices=("character", "word"), default="character", help="what the model reads and predicts")
    add("--vocabulary", type=positive, help="keep this many of the most frequent symbols")
    add("--held-out", type=share, default=0.1, help="share at the end of a single text that is kept from training")
    add("--limit", type=positive, help="read no more than this many characters of each file")
    add("--cell", default="ln_lstm", help=f"one of {', '.join(PRESETS)}")
    add("--layers", type=positive, default=1, help="cells on top of each other")
    add("--hidden", type=positive, default=128, help="hidden features")
    add("--features", type=positive, help="features of the embedding; as many as --hidden if not given")
    add("--precision", choices=("float32", "bf16"), default="float32", help="of products and outputs; weights, cell "
        "states, statistics and the optimizer have float32")  # fmt: skip
    add("--save", choices=("carries", "chunks"), default="carries", help="what the backward pass finds: the state "
        "of each step, or only that before each chunk of steps, for long windows")  # fmt: skip
    how = parser.add_argument_group("how it is trained")
    add = how.add_argument
    add("--batch", type=positive, default=32, help="rows of a step, on all devices together")
    add("--accumulate", type=positive, default=1, help="parts into which a step cuts its batch, to save memory")
    add("--window", type=positive, default=64, help="steps of time that the gradient reaches back")
    add("--passage", type=positive, default=16, help="windows that each row reads one after another, with the carry "
        "handed on, before it starts anew elsewhere")  # fmt: skip
    add("--steps", type=positive, default=300, help="training steps")
    add("--learning-rate", type=above_zero, default=0.01, help="of AdamW, after the warm-up; it falls to a tenth")
    add("--warmup", type=natural, default=20, help="steps in which the rate rises")
    add("--decay", type=_not_negative, default=0.01, help="weight decay of kernels")
    add("--clip", type=above_zero, default=1.0, help="largest norm of a gradient")
    add("--seed", type=natural, default=0, help="of weights, order of the text and sample")
    out = parser.add_argument_group("what comes of it")
    add = out.add_argument
    add("--out", type=_path, default="runs/train_distributed", metavar="FOLDER", help="where checkpoints and metrics "
        "go; a folder that all processes share")  # fmt: skip
    add("--log-every", type=positive, default=10, help="steps between two lines")
    add("--eval-every", type=positive, default=50, help="steps between two validations; each makes a line, too")
    add("--checkpoint-every", type=positive, default=50, help="steps between two checkpoints")
    add("--stop-at", type=positive, metavar="STEP", help="save and end after this step; a call with a later one, "
        "or without, goes on")  # fmt: skip
    add("--sample", type=positive, default=200, help="symbols of the sampled text")
    add("--temperature", type=above_zero, default=0.7, help="of sampling: below 1 is more careful, above bolder")
    add("--export", type=_path, metavar="FILE", help="write training step and inference for CPU, TPU and CUDA into "
        "one file")  # fmt: skip
    where = parser.add_argument_group("where it runs")
    add = where.add_argument
    add("--mesh", metavar="data=N,model=N", help="devices for examples, and for hidden features; all of them for "
        "examples if not given")  # fmt: skip
    add("--cpu-devices", type=positive, metavar="N", help="run on the CPU, as N devices")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens, if processes are started by hand")
    add("--processes", type=positive, metavar="N", help="how many there are")
    add("--process", type=natural, metavar="K", help="which of them this is")
    add("--cluster", action="store_true", help="let JAX find the other processes (Cloud TPU, Slurm, Open MPI, "
        "Kubernetes); found without it where the environment names several")  # fmt: skip
    add("--timeout", type=positive, default=100, metavar="S", help="seconds to wait for other processes")
    add("--compile-for", metavar="TOPOLOGY", help="only compile for a TPU slice such as v5e:16x16, which need not be "
        "there, and say what a step takes, with --resume one of the run in the folder; needs libtpu")  # fmt: skip
    add("--smoke", action="store_true", help="everything tiny, to see that it runs; other options go before")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on with the run in the folder, with its options")
    group.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    return parser


def _path(word: str) -> str:
    if re.match(r"\w[\w.+-]+://", word):
        raise argparse.ArgumentTypeError(f"must be a path, got the address {word}: mount it (a bucket, for example) on "
                                         "every machine, and give the path to it")  # fmt: skip
    return word


_not_negative = number(float, lambda x: 0 <= x < float("inf"), "a number, zero or more")
