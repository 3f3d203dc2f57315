"""Writes the table of ``docs/normalizers.md`` from the specs and from ``normalizer_entries.py``.

``python docs/_ext/normalizer_table.py`` rewrites the part of the page between two marks; a test fails where the page is
not what this gives, or where a public spec has no entry.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from normalizer_entries import ENTRIES, Entry

import jaxnorm as jn
from jaxnorm import analysis

PAGE = Path(__file__).parents[1] / "normalizers.md"
BEGIN, END = "<!-- begin: written by docs/_ext/normalizer_table.py -->", "<!-- end -->"
HEAD = ("name", "equation", "statistics over", "state", "train = test", "invariant to", "passes", "when", "paper")
LETTERS = analysis.PerChange("W", "Wc", "w", "X", "Xc", "x")


def public_specs() -> list[str]:
    """The names of all public specs of normalizers, of x or of kernels."""
    names = {**vars(jn), **vars(jn.weight_norms), **vars(jn.zoo)}
    kinds = [value for value in names.values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
    packages = ("jaxnorm.norms.", "jaxnorm.weight_norms.", "jaxnorm.zoo.norms.")
    return sorted(kind.__name__ for kind in kinds if kind.__module__.startswith(packages))


def missing_entries(entries: tuple[Entry, ...] = ENTRIES) -> list[str]:
    """Public specs without an entry."""
    return sorted(set(public_specs()) - {type(entry.spec).__name__ for entry in entries})


def table(entries: tuple[Entry, ...] = ENTRIES) -> str:
    """The table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, entries)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(entry: Entry) -> tuple[str, ...]:
    """One row: what the entry says, and what the spec shows."""
    name = type(entry.spec).__name__
    state, same = _state(entry.spec)
    words = (entry.passes, entry.when, entry.paper or "-")
    cells = (f"`{name}`", f"${entry.equation}$", entry.axes, state, same, _invariances(entry), *words)
    wrong = [cell for cell in cells if "|" in cell or "\n" in cell]
    if wrong:
        raise ValueError(f"normalizer_entries.py: {name}: {wrong[0]!r} holds a vertical bar or a line break.")
    return cells


def acts_on_kernels(spec: Any) -> bool:
    """Whether a spec makes kernels: ``init(kernel, key)``, ``advance(params, state)`` and ``spec(params, state)``."""
    return hasattr(spec, "advance") and not isinstance(spec, jn.Normalizer)


def _state(spec: Any) -> tuple[str, str]:
    """The fields of the state that outlives a call, and whether inference computes what training does."""
    if acts_on_kernels(spec):
        params, state = spec.init(jax.random.normal(jax.random.key(0), (5, 4)), jax.random.key(1))
        changes = not jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), spec.advance(params, state), state))
    elif isinstance(spec, jn.Normalizer):
        x = jax.random.normal(jax.random.key(0), (8, 6, 8))
        features = spec.param_shape(x.shape)
        params, state = spec.init(features), spec.initial_stats(features)
        changes = not all(
            jnp.allclose(spec.train(params, data, state)[0], spec(params, data, state or None)[0])
            for data in (30 + x, 0.01 * x)  # far from the running statistics, in mean and in size
        )
    else:  # a product, or a normalizer that is called with more than data
        state = spec.initial_stats((8,)) if hasattr(spec, "initial_stats") else ()
        changes = bool(state)
    names = dict.fromkeys(jax.tree_util.keystr(path[:1], simple=True) for path, _ in jax.tree.leaves_with_path(state))
    return ", ".join(names) or "-", "no" if changes else "yes"


def _invariances(entry: Entry) -> str:
    layer = entry.layer or (_kernel_layer(entry.spec) if acts_on_kernels(entry.spec) else entry.spec)
    found = analysis.invariances(layer, batch_shape=entry.batch_shape)
    return " ".join(letter for letter, holds in zip(LETTERS, found.holds, strict=True) if holds) or "-"


def _kernel_layer(spec: Any) -> Any:
    """The layer of a spec that makes kernels: its trained kernel changes, its scale stays, its state follows."""

    def layer(kernel: jax.Array, xs: jax.Array) -> jax.Array:
        params, state = spec.init(jax.random.normal(jax.random.key(2), kernel.shape, kernel.dtype), jax.random.key(3))
        params = params._replace(kernel=kernel)
        for _ in range(50 if jax.tree.leaves(state) else 0):
            state = spec.advance(params, state)
        return xs @ spec(params, state)

    return layer


def page(text: str, entries: tuple[Entry, ...] = ENTRIES) -> str:
    """The text of the page with a fresh table between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{after}"


def main() -> None:
    """Rewrites the page."""
    if missing_entries():
        sys.exit(
            f"docs/_ext/normalizer_entries.py has no entry for {', '.join(missing_entries())}: add a line for each."
        )
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
