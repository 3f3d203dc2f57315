"""Writes the table of ``docs/cells.md`` from the cells and from ``cell_entries.py``.

``python docs/_ext/cell_table.py`` rewrites the part of the page between two marks; a test fails where the page is not
what this gives, or where a public cell or preset has no entry.
"""

import inspect
import sys
import typing
from pathlib import Path
from typing import Any

import jax
from cell_entries import ENTRIES, Entry

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import unwrap
from jaxnorm.engine.summary import step_work

PAGE = Path(__file__).parents[1] / "cells.md"
BEGIN, END = "<!-- begin: written by docs/_ext/cell_table.py -->", "<!-- end -->"
HEAD = ("name", "equation", "norms at", "gates", "carry", "products", "reductions", "when", "paper")
SHORT = {"LayerNorm": "LN", "RMSNorm": "RMS", "BatchNorm": "BN"}
BATCH, FEATURES = 3, 5


def public_cells() -> list[str]:
    """The names of all public cells, of presets and of functions that make cells of cells.

    A FunctionCell has no equation, gates or paper but those of its user.
    """
    everything = {**vars(jn), **vars(jn.zoo)}.items()
    return sorted(name for name, value in everything if _makes_cells(value) and value is not jn.FunctionCell)


def _makes_cells(value: Any) -> bool:
    if not getattr(value, "__module__", "").startswith(("jaxnorm.cells.", "jaxnorm.zoo.")):
        return False
    if inspect.isfunction(value):
        value = typing.get_type_hints(value).get("return")
        return _has_methods(value)
    is_cell = isinstance(value, type) and _has_methods(value)
    return is_cell and not getattr(value, "_is_protocol", False)


def _has_methods(value: Any) -> bool:
    return hasattr(value, "step") and hasattr(value, "project_state")


def missing_entries(entries: tuple[Entry, ...] = ENTRIES) -> list[str]:
    """Public cells and presets without an entry."""
    return sorted(set(public_cells()) - {entry.name for entry in entries})


def table(entries: tuple[Entry, ...] = ENTRIES) -> str:
    """The table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, entries)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(entry: Entry) -> tuple[str, ...]:
    """One row: what the entry says, and what the cell shows."""
    products, before, inside = work(entry.cell)
    spec = unwrap(entry.cell)
    gates = str(getattr(spec, "gate_count", "-"))
    groups = getattr(spec, "gate_groups", (0,))
    if len(groups) > 1 and any(norm != jn.Identity() for norm in spec.sites):
        gates += f", in {' + '.join(map(str, groups))}"
    cells = (
        f"`{entry.name}`",
        f"${entry.equation}$",
        _sites(spec),
        gates,
        _carry(entry.cell),
        str(products),
        f"{before} + {inside}",
        entry.when,
        entry.paper or "-",
    )
    wrong = [cell for cell in cells if "|" in cell or "\n" in cell]
    if wrong:
        raise ValueError(f"cell_entries.py: {entry.name}: {wrong[0]!r} holds a vertical bar or a line break.")
    return cells


def _sites(spec: Any) -> str:
    """Where norms stand; in brackets where they may stand, if there are none."""
    if not hasattr(spec, "sites"):
        return "-"
    named = zip(jn.CellNorms._fields, spec.sites, strict=True)
    found = [f"{site} {SHORT.get(kind := type(norm).__name__, kind)}" for site, norm in named if norm != jn.Identity()]
    free = [f"[{site}]" for site in (*spec.default_sites, *spec.optional_sites)]
    return ", ".join(found or free) or "-"


def _carry(cell: Any) -> str:
    state = jax.eval_shape(lambda: cell.initial_carry((BATCH,)))
    inner = state.carry if isinstance(state, jn.CountedCarry) else state
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(inner)]
    return ", ".join([*names, "step"] if isinstance(state, jn.CountedCarry) else names)


def work(cell: Any) -> tuple[int, int, int]:
    """Products or convolutions in a step, reductions in the projection of the inputs, and reductions in a step."""
    return tuple(step_work(cell, FEATURES))  # type: ignore[return-value]


def page(text: str, entries: tuple[Entry, ...] = ENTRIES) -> str:
    """The text of the page with a fresh table between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{after}"


def main() -> None:
    """Rewrites the page."""
    if missing_entries():
        sys.exit(f"docs/_ext/cell_entries.py has no entry for {', '.join(missing_entries())}: add a line for each.")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
