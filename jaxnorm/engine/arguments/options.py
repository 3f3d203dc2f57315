"""The static options of a run over a sequence."""

from collections.abc import Mapping
from typing import Any, Literal

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.sizes import divides, known
from jaxnorm.cells.base import Cell, LinearCell


class Options(NamedTuple):
    """The static options of :func:`jaxnorm.unroll`, under its names; ``time`` is not negative."""

    reverse: bool
    time: int
    method: str
    chunk: int | None
    save: Literal["products", "carries", "chunks"] | None
    truncate: int | None
    masked_outputs: Literal["zero", "hold"]
    return_carries: bool


def check_engine(caller: str, engine: Mapping[str, Any]) -> None:
    """Raises TypeError if the options of a Flax module ask for a result that the module does not return."""
    if "return_carries" in engine:
        raise TypeError(
            f"{caller}: engine must hold options of the loop, got return_carries={engine['return_carries']!r}, and a "
            "module returns the last carry only. Call jaxnorm.unroll(cell, params, xs, return_carries=True)."
        )


def check_divides(caller: str, name: str, length: int | None, steps: Any) -> None:
    """Raises ValueError where sequences of an unknown number of steps cannot be cut into pieces of this length."""
    if length is not None and not (known(steps) or divides(length, steps)):
        raise ValueError(
            f"{caller}: {name}={length} must divide the number of steps, {steps}, which is not known here. Leave "
            f"{name} out, or write the number of steps '{length}*t' in jax.export.symbolic_shape."
        )


def check_options(caller: str, cell: Cell, options: Options) -> None:
    """Raises unless the options are known words and numbers that fit together and to the cell."""
    _, _, method, chunk, save, truncate, masked_outputs, _ = options
    validate.choice(caller, "method", method, ("chunked", "scan", "associative"))
    validate.choice(caller, "save", save, (None, "products", "carries", "chunks"))
    validate.choice(caller, "masked_outputs", masked_outputs, ("zero", "hold"))
    for name, size in (("chunk", chunk), ("truncate", truncate)):
        if size is not None:
            validate.positive_int(caller, name, size)
    if method != "chunked" and (chunk is not None or save not in (None, "carries")):
        raise ValueError(f"{caller}: chunk and save belong to the chunked method. Pass method='chunked', too.")
    if method == "associative" and truncate is not None:
        raise ValueError(
            f"{caller}: method='associative' goes over all steps at once and cannot stop gradients between them, got "
            f"truncate={truncate}. Leave one of the two out."
        )
    if method == "associative" and not isinstance(cell, LinearCell):
        raise TypeError(
            f"{caller}: method='associative' needs a cell that is linear in its carry, such as MinGRU or MinLSTM, got "
            f"{type(cell).__name__}. Leave method out."
        )
