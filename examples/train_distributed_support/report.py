"""What a run says: process 0 shows a bar on a terminal, and lines anywhere; the others are silent."""

from types import TracebackType

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Report:
    """The voice of process 0."""

    def __init__(self, steps: int) -> None:
        self._speaks = jax.process_index() == 0
        console = Console(quiet=not self._speaks, highlight=False, markup=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=console, disable=not console.is_terminal or not self._speaks, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("compiles", total=steps)
        self.say = console.print

    def __enter__(self) -> "Report":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, bits: float) -> None:
        self._bar.update(self._task, completed=step, description=f"step {step}: {bits:.3f} bits")
