"""What a run shows: progress bars, the table, and the picture of the curves."""

from pathlib import Path
from typing import Any

import matplotlib
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

# Colors that stay apart for color-blind readers (Okabe and Ito), and dashes for print.
COLORS = ("#555555", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A600")
STYLES = ("--", "-", "-", "-", "-", "-", "-", "-", "-")


def console() -> Console:
    """A console that is wide enough for the table where the output is no terminal."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=100)


def progress_bars(console: Console) -> Progress:
    """One bar a model: steps, loss, speed and the time that is left."""
    return Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(bar_width=None),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[bits]:.3f} bpc"),
        TextColumn("{task.fields[rate]:,.0f} characters/s"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


COLUMNS = {
    "model": ("model", "{}"),
    "parameters": ("parameters", "{:,}"),
    "train_bpc": ("train\nbpc", "{:.3f}"),
    "valid_bpc": ("valid\nbpc", "{:.3f}"),
    "running_bpc": ("running\nstatistics\nbpc", "{:.3f}"),
    "population_bpc": ("population\nstatistics\nbpc", "{:.3f}"),
    "test_bpc": ("test\nbpc", "{:.3f}"),
    "gradient_norm": ("gradient\nnorm", "{:.3f}"),
    "ms_per_step": ("ms per\nstep", "{:.1f}"),
    "memory_mib": ("peak memory\nof a step,\nXLA, MiB", "{:.1f}"),
}


def table(finals: list[dict[str, Any]]) -> Table:
    """One row a model; a dash where there is nothing to say."""
    result = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    columns = {key: column for key, column in COLUMNS.items() if any(final.get(key) is not None for final in finals)
               or key in ("running_bpc", "population_bpc")}  # fmt: skip
    for key, (title, _) in columns.items():
        result.add_column(
            title, justify="left" if key == "model" else "right", no_wrap=key == "model", vertical="bottom"
        )
    for final in finals:
        result.add_row(
            *("-" if final.get(key) is None else form.format(final[key]) for key, (_, form) in columns.items())
        )
    return result


def picture(records: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draws valid bits per character against steps and against seconds, a curve each model."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    names = list(dict.fromkeys(record["model"] for record in records))
    for panel, key, label in zip(panels, ("step", "seconds"), ("training steps", "seconds of training"), strict=True):
        for k, name in enumerate(names):
            own = [record for record in records if record["model"] == name]
            panel.plot([r[key] for r in own], [r["valid_bpc"] for r in own], STYLES[k % 9], color=COLORS[k % 9],
                       marker="o", markersize=3.5, linewidth=1.8, label=name)  # fmt: skip
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation, bits per character")
    panels[1].legend(frameon=False, fontsize=11)
    figure.suptitle(title, fontsize=12)
    figure.savefig(path, dpi=130)
    plt.close(figure)
