"""The figures that have a target: ratios of ours to others', with what was reached at each shape."""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.programs import JAX_PEERS
from benchmarks.results import Row, series, steps

PLAIN = {"ln_lstm": "lstm", "ln_gru": "gru", "bn_lstm": "lstm"}
"""The plain cell that a normalized one is compared with."""


class Figure(NamedTuple):
    """Ours divided by the least of the others that were measured."""

    title: str
    target: float
    group: str
    model: str
    direction: str
    others: tuple[tuple[str, str], ...]
    """(model, library) of each."""
    fields: tuple[str, ...] = ("median_ms", "min_ms")


def figures() -> list[Figure]:
    """All figures that are read off one shape."""
    found = []
    for model, plain in PLAIN.items():
        linen, torch = ((model, "linen"),), ((plain, "torch"),)
        fastest = tuple((plain, library) for library in JAX_PEERS)

        def figure(title: str, target: float, direction: str, others: tuple[tuple[str, str], ...], model: str = model,
                   fields: tuple[str, ...] = ("median_ms", "min_ms")) -> Figure:  # fmt: skip
            return Figure(f"`{model}` {title}", target, "cells", model, direction, others, fields)

        found += [
            figure(f"gradient / `{model}` in linen", 0.5, "gradient", linen),
            figure(f"gradient / fastest plain `{plain}` in JAX", 1.0, "gradient", fastest),
            figure(f"gradient / plain `{plain}` of torch", 1.0, "gradient", torch),
            figure(f"forward / fastest plain `{plain}` in JAX", 1.0, "forward", fastest),
            figure("gradient, temporary memory / linen's", 1 / 6, "gradient", linen, fields=("xla_temp_bytes",)),
            figure("gradient, compile time / linen's", 1.5, "gradient", linen, fields=("compile_s",)),
        ]
    for model in ("lstm", "gru"):
        others = tuple((model, library) for library in JAX_PEERS)
        for direction in ("gradient", "forward"):
            found.append(
                Figure(f"`{model}` {direction} / fastest `{model}` in JAX", 0.8, "cells", model, direction, others)
            )
    others = tuple(("layer_norm", library) for library in JAX_PEERS)
    found.append(Figure("`layer_norm` gradient / fastest in JAX", 0.8, "norms", "layer_norm", "gradient", others))
    return found


def ratio(figure: Figure, rows: Sequence[Row], field: str) -> float | None:
    """The figure among rows of one shape and dtype; None where one side is missing."""
    values = {
        (row.model, row.library): value
        for row in rows
        if (row.group, row.direction) == (figure.group, figure.direction) and (value := getattr(row, field))
    }
    own = values.get((figure.model, "ours"))
    others = [values[other] for other in figure.others if other in values]
    return own / min(others) if own is not None and others else None


def summary(rows: Sequence[Row]) -> list[str]:
    """Markdown: for each group and dtype a table with a line for each figure and a column for each shape."""
    lines = []
    for group in ("cells", "norms"):
        for dtype in dict.fromkeys(row.dtype for row in rows if row.group == group):
            of_dtype = [row for row in rows if row.group == group and row.dtype == dtype]
            shapes = list(dict.fromkeys(row.shape for row in of_dtype))
            table = []
            for figure in figures():
                cells = [_cell(figure, [row for row in of_dtype if row.shape == shape]) for shape in shapes]
                if any(cells):
                    table.append(f"| {figure.title} | {figure.target:.2g} | {' | '.join(c or '-' for c in cells)} |")
            if table:
                lines += ["", f"**{group}, {dtype}**", "", f"| figure | target | {' | '.join(shapes)} |"]
                lines += ["|---|---|" + "---|" * len(shapes), *table]
    return lines + _growth(rows) + _import(rows)


def _cell(figure: Figure, rows: Sequence[Row]) -> str:
    """For example "0.48 (0.45) yes": by medians, by minima, and whether the target is reached by medians."""
    ratios = [ratio(figure, rows, field) for field in figure.fields]
    first = ratios[0]
    if first is None:
        return ""
    rest = "".join(f" ({r:.2f})" for r in ratios[1:] if r is not None)
    return f"{first:.2f}{rest} {'yes' if first <= figure.target else 'no'}"


def _growth(rows: Sequence[Row]) -> list[str]:
    """How flat the time per step stays as T grows, and the least temporary memory at the longest sequences."""
    longer = [row for row in rows if row.group == "growth" and series(row) == "growing-steps"]
    longer = [row for row in longer if (row.dtype, row.direction) == ("float32", "gradient")]
    lines = []
    for model in dict.fromkeys(row.model for row in longer):
        ours = [row.median_ms / steps(row) for row in longer if (row.model, row.library) == (model, "ours")]
        if len(ours) > 1:
            spread = max(ours) / min(ours)
            lines.append(
                f"- `{model}` gradient, time per step as T grows, largest / smallest: {spread:.2f}, "
                f"target 1.1: {'yes' if spread <= 1.1 else 'no'}"
            )
        lines += [_least_memory(model, longer)]
    return ["", "**growth**", "", *filter(None, lines)] if any(lines) else []


def _least_memory(model: str, rows: Sequence[Row]) -> str:
    at = [row for row in rows if row.model == model and steps(row) == 8192 and row.xla_temp_bytes]
    linen = [row.xla_temp_bytes for row in at if row.library == "linen" and row.xla_temp_bytes]
    ours = [(row.xla_temp_bytes, row.library) for row in at if row.library.startswith("ours") and row.xla_temp_bytes]
    if not linen or not ours:
        return ""
    least, name = min(ours)
    share = linen[0] / least
    return (
        f"- `{model}` gradient, temporary memory at T = 8192: 1/{share:.0f} of linen's with `{name}`, "
        f"target 1/50: {'yes' if share >= 50 else 'no'}"
    )


def _import(rows: Sequence[Row]) -> list[str]:
    found = {row.library: row for row in rows if row.group == "imports"}
    if "ours" not in found:
        return []

    def seconds(row: Row) -> str:
        return f"{row.median_ms / 1e3:.2f} s ({row.min_ms / 1e3:.2f})"

    others = ", ".join(f"{library} {seconds(row)}" for library, row in found.items() if library != "ours")
    return [
        "",
        "**imports**",
        "",
        f"- importing jaxnorm takes {seconds(found['ours'])} beyond jax, target 0.3 s: "
        f"{'yes' if found['ours'].median_ms <= 300 else 'no'}{f'; {others}' if others else ''}",
    ]
