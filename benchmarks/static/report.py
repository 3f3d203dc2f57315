"""The figures as Markdown."""

from collections.abc import Iterable
from typing import Any

from benchmarks.static.cases import LIBRARIES, MAIN, MODELS, Case
from benchmarks.static.records import Records
from benchmarks.static.targets import TARGETS

GIB, MIB = 2**30, 2**20
_COLUMNS = (
    "temporary memory, MiB",
    "slow memory, GiB",
    "kernels a step forward",
    "backward",
    "bundles / floor",
    "compilation, processor s",
)
_LEGEND = """\
One gradient of parameters and inputs in bfloat16, counted over the compiled text. Slow memory: bytes read from the
device's main memory and written to it (HBM), those of a loop times its rounds. Kernels a step: those of the loops, the
rest is in `results.json`. Bundles / floor: instruction bundles a step of the schedule, and how many the matrix units
alone would need for the products that are made. `ours` is jaxnorm, traced for the device; `ours-unplaced` is traced
for a host without one; `ours-64` runs in chunks of 64 steps. Shapes are (batch, steps, inputs, hidden features)."""


def report(records: Records) -> str:
    """The whole file: versions, a table for each target and shape, and collectives."""
    lines = ["# Static figures", "", *_environments(records), "", "## Figures", "", _LEGEND]
    cases = sorted(records.figures, key=_order)
    for target, shape in dict.fromkeys((case.target, case.shape) for case in cases if case.spread == "none"):
        rows = [case for case in cases if (case.target, case.shape, case.spread) == (target, shape, "none")]
        lines += ["", f"**{target}, {shape}**", "", *_head(("cell", "library"), _COLUMNS)]
        lines += [_row(case, records.figures[case]) for case in rows]
    spread = [case for case in cases if case.spread != "none"]
    if spread:
        lines += ["", "**Collectives over eight devices**", ""]
        lines += _head(("target", "cell", "shape", "spread", "a step forward", "a step backward", "outside of loops"))
        lines += [_collectives(case, records.figures[case]) for case in spread]
    if records.failed:
        lines += ["", "## Not compiled", "", *(f"- {case}: {why}" for case, why in records.failed.items())]
    return "\n".join(lines) + "\n"


def _head(words: tuple[str, ...], numbers: tuple[str, ...] = ()) -> list[str]:
    return [f"| {' | '.join(words + numbers)} |", "|" + "---|" * len(words) + "---:|" * len(numbers)]


def _order(case: Case) -> tuple[Any, ...]:
    """As the plan has them: the shape with all figures first."""
    shape = (case.sizes != MAIN, case.sizes)
    return list(TARGETS).index(case.target), shape, MODELS.index(case.model), LIBRARIES.index(case.library), case.spread


def _environments(records: Records) -> Iterable[str]:
    for platform, versions in records.environments.items():
        rows = [row for case, row in records.figures.items() if TARGETS[case.target].platform == platform]
        commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
        yield f"- {platform}: {', '.join(f'{name} {version}' for name, version in versions.items())}; commit {commits}"


def _row(case: Case, figures: dict[str, Any]) -> str:
    kernels = figures["kernels"]
    bundles = "-"
    if "bundles" in figures:
        ratio = figures["bundles"] / figures["floor_bundles"]
        bundles = f"{figures['bundles']:,.0f} / {figures['floor_bundles']:,.0f} = {ratio:.2f}"
    return (
        f"| `{case.model}` | {case.library} | {figures['temporary_bytes'] / MIB:,.1f} | "
        f"{figures['slow_bytes']['all'] / GIB:.3g} | {kernels['forward']:.1f} | {kernels['backward']:.1f} | "
        f"{bundles} | {figures['compile_cpu_s']:.0f} |"
    )


def _collectives(case: Case, figures: dict[str, Any]) -> str:
    parts = (figures["collectives"][part] for part in ("forward", "backward", "outside"))
    words = (", ".join(f"{count:.3g} {name}" for name, count in part.items()) or "none" for part in parts)
    return f"| {case.target} | `{case.model}` | {case.shape} | {case.spread} | {' | '.join(words)} |"
