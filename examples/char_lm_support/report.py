"""What the terminal shows: progress bars, and a table that fits into 80 columns."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from .summary import MARGIN, Summary


def progress_bars(console: Console) -> Progress:
    """One bar a model: how much is done, what it does now, its loss, and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[doing]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )


def result(found: Summary) -> str:
    """A model in one line, for its bar."""
    bits = found.mean("valid_bpc")
    return "diverged" if bits is None else f"{bits:.3f} bpc at {found.rate:g}"


FIGURES = {
    "valid_bpc": ("valid\nbpc", "{:.3f}"),
    "range": ("range\nover\nseeds", "{:.3f}"),
    "population_bpc": ("popu-\nlation\nbpc", "{:.3f}"),
    "test_bpc": ("test\nbpc", "{:.3f}"),
    "ms_per_step": ("ms a\nstep", "{:.1f}"),
    "compile": ("compile\ns", "{:.0f}"),
    "memory_mib": ("MiB a\nstep", "{:.1f}"),
}


def table(summaries: Sequence[Summary]) -> Table:
    """One row a model, means over seeds; a dash where there is nothing to say, and no column of dashes."""
    rows = [{key: found.mean(key) for key in FIGURES} | {"compile": found.compile_seconds} for found in summaries]
    for row, found in zip(rows, summaries, strict=True):
        if row["valid_bpc"] is not None and len(found.finals) > 1:
            row["range"] = float(found.band.high[-1] - found.band.low[-1])
    shown = [key for key in FIGURES if any(row[key] is not None for row in rows)]
    result = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    result.add_column("model", overflow="fold", vertical="bottom")
    for head in ("para-\nmeters", "best\nrate", f"octaves\nwithin\n{MARGIN:g} bit", *(FIGURES[k][0] for k in shown)):
        result.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    for row, found in zip(rows, summaries, strict=True):
        figures = ("-" if row[key] is None else FIGURES[key][1].format(row[key]) for key in shown)
        parameters = f"{found.finals[0]['parameters']:,}"
        result.add_row(found.model, parameters, f"{found.rate:g}", found.works.describe(), *figures)
    return result
