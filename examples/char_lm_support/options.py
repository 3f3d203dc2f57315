"""The command line, and the options of a run that goes on."""

import argparse
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jaxnorm

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}. See --help.")


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
    words = []
    for name, value in stored.items():
        if value is not None and value is not False:
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    try:
        found = vars(_parser().parse_args(words))
    except BadInput as error:
        raise BadInput(
            f"--resume: config.json in {out} makes no sense: {error} Begin again with --overwrite."
        ) from None
    return {name: found[name] for name in stored}


def _parser() -> _Parser:
    parser = _Parser(prog="char_lm.py", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                     description="Trains character language models, each at its own best learning rate: what does "
                     "normalization do? A run that is in the folder already goes on.")  # fmt: skip
    add = parser.add_argument
    add("--models", nargs="+", default=DEFAULT_MODELS, metavar="NAME", help=f"any of {', '.join(PRESETS)}")
    add("--data", metavar="PATH", help="UTF-8 text (plain, .gz, .xz), or a folder with train, valid and test files; "
        "the Python language reference if not given")  # fmt: skip
    add("--held-out", type=_share, default=0.1, help="share at the end of a single text that is kept from training")
    add("--limit", type=_positive, help="read no more than this many characters of each file")
    add("--out", default="runs/char_lm", metavar="FOLDER", help="where checkpoints, metrics, pictures and samples go")
    add("--hidden", type=_positive, default=128, help="hidden features")
    add("--batch", type=_positive, default=32, help="streams read at the same time")
    add("--window", type=_positive, default=32, help="characters that the gradient reaches back")
    add("--passage", type=_positive, default=16, help="windows that each stream reads one after another, with the "
        "carry handed on, before it starts anew elsewhere")  # fmt: skip
    add("--learning-rates", type=_above_zero, nargs="+", default=DEFAULT_RATES, metavar="RATE",
        help="rates of Adam that each model tries; it is then trained at its own best")  # fmt: skip
    add("--sweep-steps", type=_positive, help="training steps at each rate tried; as many as --steps if not given")
    add("--steps", type=_positive, default=500, help="training steps at the best rate")
    add("--seeds", type=_positive, default=3, help="runs at the best rate, each with other weights and texts")
    add("--eval-every", type=_positive, default=50, help="steps between two validations")
    add("--checkpoint-every", type=_positive, default=250, help="steps between two checkpoints")
    add("--characters", type=_positive, default=300, help="length of the sampled text")
    add("--temperature", type=_above_zero, default=0.7, help="of sampling: below 1 is more careful, above bolder")
    add("--seed", type=_natural, default=0, help="of weights, order of the text and samples")
    add("--processes", type=_positive, help="models trained at the same time, each on a core of its own; "
        "one for each core if not given")  # fmt: skip
    add("--smoke", action="store_true", help="everything tiny and in one process, to see that it runs; other options "
        "go before")  # fmt: skip
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="go on with the run in the folder, with its options")
    group.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    return parser


def _number(kind: Callable[[str], float], accept: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def convert(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {word!r}")
        return value

    return convert


_positive = _number(int, lambda n: n > 0, "a whole number above zero")
_natural = _number(int, lambda n: 0 <= n < 2**32, "a whole number from 0 to 4294967295")
_above_zero = _number(float, lambda x: 0 < x < float("inf"), "a number above zero")
_share = _number(float, lambda x: 0 < x < 1, "a number between 0 and 1")
