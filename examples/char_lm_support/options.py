"""The command line, and the options of a run that goes on."""

import argparse
import inspect
from collections.abc import Sequence
from typing import Any

import jaxnorm

from .arguments import Parser, above_zero, as_words, natural, positive, share
from .errors import BadInput
from .run_folder import stored_options

PRESETS = tuple(
    name
    for name, function in {**vars(jaxnorm), **vars(jaxnorm.zoo)}.items()
    if inspect.isfunction(function) and next(iter(inspect.signature(function).parameters), "") == "hidden_features"
)
"""Every model that jaxnorm has by name."""

DEFAULT_MODELS = ["lstm", "ln_lstm", "ln_gru", "bn_lstm"]
DEFAULT_RATES = [0.0025 * 2**k for k in range(6)]
SMOKE = {"hidden": 16, "batch": 4, "window": 16, "passage": 3, "steps": 8, "sweep_steps": 4, "seeds": 2,
         "learning_rates": [0.004, 0.02], "eval_every": 4, "checkpoint_every": 4, "limit": 6_000,
         "characters": 40}  # fmt: skip


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line, and with --resume the folder; raises BadInput with one line if it makes no sense."""
    parser = _parser()
    typed = parser.parse_args(argv)
    if typed.resume:
        parser.set_defaults(**_stored(typed.out))
    elif typed.smoke:
        parser.set_defaults(**SMOKE)
    args = parser.parse_args(argv)
    args.models = list(dict.fromkeys(name for word in args.models for name in word.split(",") if name))
    unknown = [name for name in args.models if name not in PRESETS]
    if unknown or not args.models:
        raise BadInput(f"--models: no preset is called {', '.join(unknown) or '(nothing)'}. "
                       f"Choose from {', '.join(PRESETS)}.")  # fmt: skip
    args.learning_rates = sorted(set(args.learning_rates))
    args.sweep_steps = args.sweep_steps or args.steps
    return args


def _stored(out: str) -> dict[str, Any]:
    """The options of the run in a folder, read as if they were typed."""
    stored = stored_options(out)
    if stored is None:
        raise BadInput(f"--resume: there is no run in {out}. Leave --resume out to begin one, or give its --out.")
    stored.pop("text_sha256", None)
    try:
        found = vars(_parser().parse_args(as_words(stored)))
    except BadInput as error:
        raise BadInput(
            f"--resume: config.json in {out} makes no sense: {error} Begin again with --overwrite."
        ) from None
    return {name: found[name] for name in stored}


def _parser() -> Parser:
    parser = Parser(prog="char_lm.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                     description="Trains character language models, each at its own best learning rate: what does "
                     "normalization do? A run that is in the folder already goes on.")  # fmt: skip
    add = parser.add_argument
    add("--models", nargs="+", default=DEFAULT_MODELS, metavar="NAME", help=f"any of {', '.join(PRESETS)}")
    add("--data", metavar="PATH", help="UTF-8 text (plain, .gz, .xz), or a folder with train, valid and test files; "
        "the Python language reference if not given")  # fmt: skip
    add("--held-out", type=share, default=0.1, help="share at the end of a single text that is kept from training")
    add("--limit", type=positive, help="read no more than this many characters of each file")
    add("--out", default="runs/char_lm", metavar="FOLDER", help="where checkpoints, metrics, pictures and samples go")
    add("--hidden", type=positive, default=128, help="hidden features")
    add("--batch", type=positive, default=32, help="streams read at the same time")
    add("--window", type=positive, default=32, help="characters that the gradient reaches back")
    add("--passage", type=positive, default=16, help="windows that each stream reads one after another, with the "
        "carry handed on, before it starts anew elsewhere")  # fmt: skip
    add("--learning-rates", type=above_zero, nargs="+", default=DEFAULT_RATES, metavar="RATE",
        help="rates of Adam that each model tries; it is then trained at its own best")  # fmt: skip
    add("--sweep-steps", type=positive, help="training steps at each rate tried; as many as --steps if not given")
    add("--steps", type=positive, default=500, help="training steps at the best rate")
    add("--seeds", type=positive, default=3, help="runs at the best rate, each with other weights and texts")
    add("--eval-every", type=positive, default=50, help="steps between two validations")
    add("--checkpoint-every", type=positive, default=250, help="steps between two checkpoints")
    add("--characters", type=positive, default=300, help="length of the sampled text")
    add("--temperature", type=above_zero, default=0.7, help="of sampling: below 1 is more careful, above bolder")
    add("--seed", type=natural, default=0, help="of weights, order of the text and samples")
    add("--processes", type=positive, help="models trained at the same time, each on a core of its own; "
        "one for each core if not given")  # fmt: skip
    add("--smoke", action="store_true", help="everything tiny and in one process, to see that it runs; other options "
        "go before")  # fmt: skip
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on with the run in the folder, with its options")
    group.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    return parser
