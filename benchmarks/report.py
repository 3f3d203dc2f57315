"""The results as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.programs.base import DIRECTIONS
from benchmarks.results import Row, series, steps
from benchmarks.summary import summary

MIB = 2**20


def report(rows: Sequence[Row], machine: dict[str, Any], left_out: Sequence[str]) -> str:
    """The whole file: machine, figures with a target, a table for each model and direction, growth, ours alone."""
    lines = ["# Results", "", _machine(machine), "", "`ours` is jaxnorm. Times are medians (minima in parentheses)."]
    lines += ["", "## Figures with a target", "", "Ratios by medians (by minima), and whether the target is reached."]
    lines += summary(rows)
    for group in ("cells", "norms"):
        of_group = [row for row in rows if row.group == group]
        for model in dict.fromkeys(row.model for row in of_group):
            lines += _model(model, [row for row in of_group if row.model == model])
    lines += _growth([row for row in rows if row.group == "growth"])
    lines += _costs("Costs of the normalizers", "layer_norm", [row for row in rows if row.group == "costs"])
    lines += _costs("Cells and presets", "ln_lstm", [row for row in rows if row.group == "presets"])
    if left_out:
        lines += ["", "## Left out", "", *(f"- {what}" for what in left_out)]
    return "\n".join(lines) + "\n"


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    threads = ", ".join(f"{name}={value}" for name, value in machine["threads"].items()) or "as they come"
    return (
        f"{machine['date']}, commit {machine['commit']}. {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['os']}; device: {machine['device']}. "
        f"Python {machine['python']}, {versions}. Thread settings: {threads}."
    )


def _model(model: str, rows: Sequence[Row]) -> list[str]:
    lines = ["", f"## {model}"]
    for direction in dict.fromkeys(row.direction for row in rows):
        for dtype in dict.fromkeys(row.dtype for row in rows):
            chosen = [row for row in rows if (row.direction, row.dtype) == (direction, dtype)]
            if chosen:
                title = f"{model}, {direction}, {dtype}"
                lines += _table(f"**{title}: time, ms**", chosen, _time, _best)
                if direction == "gradient":  # the rest is in results.csv
                    lines += _table(f"{title}: temporary memory by XLA / measured peak, MiB", chosen, _memory)
                    lines += _table(f"{title}: compile time, s", chosen, _compile)
    return lines


def _table(
    title: str, rows: Sequence[Row], cell: Callable[[Row], str], last: Callable[[Sequence[Row]], str] | None = None
) -> list[str]:
    """Libraries as columns, shapes as rows."""
    libraries = list(dict.fromkeys(row.library for row in rows))
    head = ["shape", *libraries, *(["ours / best peer"] if last else [])]
    lines = ["", title, "", f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for shape in dict.fromkeys(row.shape for row in rows):
        found = {row.library: row for row in rows if row.shape == shape}
        cells = [cell(found[library]) if library in found else "-" for library in libraries]
        cells += [last(list(found.values()))] if last else []
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    return lines


def _time(row: Row) -> str:
    return f"{row.median_ms:.4g} ({row.min_ms:.4g})"


def _memory(row: Row) -> str:
    return f"{_mib(row.xla_temp_bytes)} / {_mib(row.peak_bytes)}"


def _mib(count: int | None) -> str:
    return "-" if count is None else f"{count / MIB:.3g}"


def _compile(row: Row) -> str:
    return "-" if row.compile_s is None else f"{row.compile_s:.2f}"


def _best(rows: Sequence[Row]) -> str:
    ratios = [row.ratio_to_best_peer for row in rows if row.library == "ours" and row.ratio_to_best_peer]
    return f"{ratios[0]:.2f}" if ratios else "-"


def _growth(rows: Sequence[Row]) -> list[str]:
    """One table a series: time per step and memory."""
    lines = ["", "## Growth"] if rows else []
    for name, *what in dict.fromkeys((series(row), row.model, row.direction, row.dtype) for row in rows):
        chosen = [
            row._replace(shape=row.shape.removeprefix(f"{name}:"))
            for row in rows
            if series(row) == name and [row.model, row.direction, row.dtype] == what
        ]
        title = f"{name}: {', '.join(what)}"
        lines += _table(f"**{title}: time per step, µs**", chosen, _time_per_step)
        lines += _table(f"{title}: temporary memory by XLA / measured peak, MiB", chosen, _memory)
    return lines


def _time_per_step(row: Row) -> str:
    return f"{1e3 * row.median_ms / steps(row):.4g}"


def _costs(title: str, base: str, rows: Sequence[Row]) -> list[str]:
    """One table for each shape and dtype: all models beside one of them."""
    lines = ["", f"## {title}", "", f"Ratios (x) to `{base}`."] if rows else []
    head = [word for direction in DIRECTIONS for word in (f"{direction}, ms", "x", "MiB", "x")]
    for shape, dtype in dict.fromkeys((row.shape, row.dtype) for row in rows):
        found = {(row.model, row.direction): row for row in rows if (row.shape, row.dtype) == (shape, dtype)}
        lines += [
            "",
            f"**{shape}, {dtype}**",
            "",
            f"| model | {' | '.join(head)} |",
            "|---|" + "---:|" * len(head),
        ]
        for model in dict.fromkeys(model for model, _ in found):
            cells = [
                cell
                for direction in DIRECTIONS
                for cell in _cost(found.get((model, direction)), found.get((base, direction)))
            ]
            lines.append(f"| `{model}` | {' | '.join(cells)} |")
    return lines


def _cost(row: Row | None, base: Row | None) -> tuple[str, ...]:
    """Time and temporary memory, each with the ratio to that of layer normalization."""
    if row is None:
        return ("-",) * 4
    time = f"{row.median_ms / base.median_ms:.2f}" if base else "-"
    own, least = row.xla_temp_bytes, (base and base.xla_temp_bytes) or 0
    memory = f"{own / least:.2f}" if own is not None and least >= MIB else "-"
    return _time(row), time, _mib(own), memory
