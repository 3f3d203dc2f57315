"""The errors of all normalizers as a table: ours beside those of the most exact other library."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.accuracy.inputs import Kind
from benchmarks.accuracy.measure import MASKS, Errors

VALUES, GRADIENTS = 4.0, 5.0
"""What we aim at in float32, in units in the last place."""


class Row(NamedTuple):
    """The worst errors of a library at one normalizer, one kind of data and one way of masking."""

    dtype: str
    norm: str
    kind: Kind
    mask: str
    library: str
    errors: Errors


def table(rows: Iterable[Row], dtype: str) -> str:
    """A table in Markdown: a line for each normalizer and kind of data, two columns for each way of masking."""
    found: dict[tuple[str, Kind], dict[str, dict[str, Errors]]] = {}
    for row in rows:
        if row.dtype == dtype:
            found.setdefault((row.norm, row.kind), {}).setdefault(row.mask, {})[row.library] = row.errors
    masks = [mask for mask in MASKS if any(mask in by_mask for by_mask in found.values())]
    heads = [head for mask in masks for head in (_TITLES[mask], "best other")]
    lines = [
        f"| normalizer | data | epsilon | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(heads)}",
    ]
    for (norm, kind), by_mask in found.items():
        cells = []
        for mask in masks:
            libraries = by_mask.get(mask, {})
            peers = {name: errors for name, errors in libraries.items() if name != "ours"}
            cells += [_cell(libraries.get("ours")), _cell(best(peers.values()))]
        lines.append(f"| `{norm}` | {kind.name} | {kind.epsilon:g} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_TITLES = {"none": "no mask", "all": "mask True everywhere", "half": "half masked", "axis name": "axis name"}


def best(errors: Iterable[Errors]) -> Errors | None:
    """The smallest error of values, and the smallest of gradients, of several libraries; None if there is none."""
    values, gradients = zip(*errors, strict=True) if (errors := list(errors)) else ((), ())
    return Errors(min(values), min(gradients)) if values else None


def misses(rows: Iterable[Row]) -> list[str]:
    """Our errors in float32 above the aim, or above twice that of the most exact other library, each beside that."""
    rows = [row for row in rows if row.dtype == "float32"]
    lines = []
    for row in rows:
        if row.library != "ours":
            continue
        same = [other.errors for other in rows if other[1:4] == row[1:4] and other.library != "ours"]
        peer = best(same) or Errors(math.inf, math.inf)
        for name, ours, aim, other in zip(Errors._fields, row.errors, (VALUES, GRADIENTS), peer, strict=True):
            if ours > min(aim, 2 * other):
                lines.append(
                    f"{row.norm}, {row.kind.name}, epsilon {row.kind.epsilon:g}, {_TITLES[row.mask]}: {name} err by "
                    f"{_number(ours)}; the most exact other library by {_number(other)}"
                )
    return lines


def _cell(errors: Errors | None) -> str:
    return "" if errors is None else f"{_number(errors.values)} / {_number(errors.gradients)}"


def _number(error: float) -> str:
    if math.isinf(error):
        return "∞"
    return f"{error:.1e}" if error >= 1000 else f"{error:.0f}" if error >= 100 else f"{error:.1f}"
