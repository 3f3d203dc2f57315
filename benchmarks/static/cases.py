"""What is compiled."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from benchmarks.errors import BadInput, check_names
from benchmarks.shapes import Shape, name_of
from benchmarks.static.targets import TARGETS

MAIN, LARGE, LONG = Shape(256, 512, 512, 512), Shape(1024, 256, 1024, 1024), Shape(64, 2048, 256, 256)
SPREAD, SMOKE = Shape(256, 128, 256, 256), Shape(8, 16, 128, 128)
MODELS = ("ln_lstm", "ln_gru", "bn_lstm", "lstm")
UNPLACED = "ours-unplaced"
"""Ours, traced for the host: nothing tells the device. Only on request, like the settings after it."""
OURS = ("ours", UNPLACED, "ours-64", "ours-lean", "ours-plain")
LIBRARIES = (*OURS, "linen", "linen-optimized", "haiku")
SPREADS = ("none", "batch", "hidden")
"""How a program is spread over eight devices."""


class Case(NamedTuple):
    """The gradient of a recurrent layer in a library, in bfloat16, compiled for a target."""

    target: str
    model: str
    library: str
    shape: str
    spread: str = "none"

    def __str__(self) -> str:
        spread = "" if self.spread == "none" else f", {self.spread} spread"
        return f"{self.target} {self.model} {self.library} {self.shape}{spread}"

    @property
    def sizes(self) -> Shape:
        """The shape as numbers."""
        return parse_shape(self.shape)


class Choice(NamedTuple):
    """What was asked for; None leaves it to the plan."""

    targets: Sequence[str] | None = None
    shapes: Sequence[str] | None = None
    models: Sequence[str] | None = None
    libraries: Sequence[str] | None = None
    spreads: Sequence[str] | None = None
    smoke: bool = False


def parse_shape(name: str) -> Shape:
    """The shape that a name like "256x512x512x512" stands for.

    Raises:
      BadInput: it is no such name.
    """
    sizes = name.split("x")
    if len(sizes) != 4 or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise BadInput(f"--shapes: expected batch, steps, inputs and hidden features like 256x512x512x512, got {name}")
    return Shape(*map(int, sizes))


def plan(choice: Choice) -> list[Case]:
    """All cases that were asked for, those of one target together.

    Raises:
      BadInput: a name is unknown, or nothing is left.
    """
    known: dict[str, Sequence[str]] = {"targets": tuple(TARGETS), "models": MODELS, "libraries": LIBRARIES}
    for option, names in {**known, "spreads": SPREADS}.items():
        check_names(f"--{option}", getattr(choice, option) or (), names)
    asked = [case for case in dict.fromkeys(_all(choice)) if _is_asked(choice, case)]
    if not asked:
        raise BadInput("nothing is compiled: no target has such cells. See --help.")
    return asked


def _is_asked(choice: Choice, case: Case) -> bool:
    fields = {"targets": case.target, "models": case.model, "libraries": case.library, "spreads": case.spread}
    return all(value in (getattr(choice, option) or (value,)) for option, value in fields.items())


def _all(choice: Choice) -> Iterator[Case]:
    """All figures on a TPU and on a CUDA card, those of the LN-LSTM on the other TPUs and at the other shapes."""
    if choice.shapes is not None or choice.smoke:
        names = [name_of(parse_shape(name)) for name in choice.shapes or (name_of(SMOKE),)]
        for target, shape, model, spread in product(TARGETS, names, MODELS, choice.spreads or ("none",)):
            yield from _with(target, shape, model, choice.libraries or libraries_of(model), spread)
        return
    main, spread_shape = name_of(MAIN), name_of(SPREAD)
    for target in TARGETS:
        whole = target in ("v5e", "h200")
        for model in MODELS if whole or choice.models else ("ln_lstm", "lstm"):
            yield from _with(target, main, model, choice.libraries or libraries_of(model))
        if target == "v5e":
            for other in (LARGE, LONG):
                yield from _with(target, name_of(other), "ln_lstm", choice.libraries or libraries_of("ln_lstm"))
        for model, spread in product(("ln_lstm", "ln_gru", "bn_lstm"), SPREADS[1:]) if target == "v5e" else ():
            yield Case(target, model, "ours", spread_shape, spread)


def _with(target: str, shape: str, model: str, libraries: Sequence[str], spread: str = "none") -> Iterator[Case]:
    for library in libraries:
        if library == UNPLACED and spread != "none":  # what is spread lies on a mesh
            continue
        if library in OURS or library in libraries_of(model):
            yield Case(target, model, library, shape, spread)


def libraries_of(model: str) -> tuple[str, ...]:
    """Those that are compared: the plain LSTM as the libraries offer it, the others as the same equations in Flax."""
    return ("ours", "linen-optimized", "haiku") if model == "lstm" else ("ours", "linen")


def with_schedule(case: Case) -> bool:
    """Whether the schedule is read, too, which means compiling once more: ours of the cell that is watched most."""
    target: Any = TARGETS[case.target]
    ours = case.library in OURS and case.model == "ln_lstm" and case.spread == "none"
    return bool(target.multiplications) and ours and case.sizes in (MAIN, SMOKE)
