"""Counts what a cell has and what a step of it does, for ``print`` and for notebooks."""

import html
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.paths import paths
from jaxnorm.cells.base import Cell, CountedCarry, StepInput, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.wrappers.base import unwrap
from jaxnorm.engine.unroll import unroll

BATCH = 3
STEPS = 128
"""Whole chunks, on any machine: what is kept grows by the same number of bytes with each step."""
PRODUCTS = ("dot_general", "conv_general_dilated")


class Entry(NamedTuple):
    """An array of a summary."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)


class Work(NamedTuple):
    """What a step does."""

    products: int
    """Matrix products and convolutions in a step; that of the inputs is made before the loop."""
    reductions_before: int
    """Reductions over features or batch before the loop, all steps at once."""
    reductions: int
    """Reductions over features or batch in a step."""


class Summary(NamedTuple):
    """The result of :func:`summary`; ``print`` shows it as text, and a notebook as a table.

    Attributes:
      cell: the cell.
      params: its weights: names, shapes and dtypes.
      stats: its running statistics, likewise; empty without any.
      carry: its state, for one example.
      work: the products and reductions of a step.
      kept_bytes: bytes that the forward pass keeps for the backward pass, for each step of each example: the inputs,
        the carries, and the keys of masks.
    """

    cell: Any
    params: tuple[Entry, ...]
    stats: tuple[Entry, ...]
    carry: tuple[Entry, ...]
    work: Work
    kept_bytes: int

    @property
    def total(self) -> int:
        """The number of weights."""
        return sum(entry.size for entry in self.params)

    def __str__(self) -> str:
        return "\n".join([repr(self.cell), "", *_aligned(self._rows()), "", *_aligned(self._facts())])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        cell = f"<p><code>{html.escape(repr(self.cell))}</code></p>"
        return cell + _html_table(self._rows(), head=True) + _html_table(self._facts(), head=False)

    def _rows(self) -> list[tuple[str, ...]]:
        """The table of weights, with its heading and its sum."""
        rows = [(entry.name, str(entry.shape), entry.dtype, f"{entry.size:,}") for entry in self.params]
        return [("weights", "shape", "dtype", "number"), *rows, ("all", "", "", f"{self.total:,}")]

    def _facts(self) -> list[tuple[str, ...]]:
        """What is said below the weights."""
        return [
            ("carry", _listed(self.carry)),
            *([("running statistics", _listed(self.stats))] if self.stats else []),
            ("products in a step", str(self.work.products)),
            ("reductions", f"{self.work.reductions_before} before the loop, {self.work.reductions} in a step"),
            ("kept for the backward pass", f"{self.kept_bytes:,} bytes for each step of each example"),
        ]


def summary(cell: Cell, in_features: int) -> Summary:
    """Counts the weights of a cell, what a step of it does, and what a gradient keeps.

    All is read from shapes and from traced programs: nothing is computed, and no weight is made.

    Args:
      cell: a spec such as ``ln_lstm(128)``.
      in_features: the number of input features.

    Returns:
      A Summary, which ``print`` shows as text, and a notebook as a table.

    Raises:
      TypeError: ``cell`` is no cell spec.
      ValueError: ``in_features`` is not positive, or the cell takes inputs with positions whose sizes it does not say.

    Example:
      >>> import jaxnorm
      >>> found = jaxnorm.summary(jaxnorm.ln_gru(4), in_features=3)
      >>> found.total, found.work.products, found.work.reductions
      (156, 1, 2)
      >>> print(found)
      GRU(4, norm=LayerNorm(), update_gate='renew')
      <BLANKLINE>
      weights               shape      dtype    number
      kernel                (3, 3, 4)  float32  36
      recurrent             (4, 3, 4)  float32  48
      bias                  (12,)      float32  12
      recurrent_bias        (12,)      float32  12
      norm.input.scale      (12,)      float32  12
      norm.input.bias       (12,)      float32  12
      norm.recurrent.scale  (12,)      float32  12
      norm.recurrent.bias   (12,)      float32  12
      all                                       156
      <BLANKLINE>
      carry                       h (4,)
      products in a step          1
      reductions                  2 before the loop, 2 in a step
      kept for the backward pass  28 bytes for each step of each example

    Notes:
      Products are matrix products and convolutions, in the loop; the product of the inputs is always made before it. A
      mean is not among the reductions if the kernel is centered instead. The bytes are those of
      ``unroll(..., save="carries")`` with inputs in float32; ``save="chunks"`` keeps less, ``save="products"`` (the
      default on CPUs in float32) the products, too. A gradient also keeps the weights.
    """
    check_cell("summary", "cell", cell)
    validate.positive_int("summary", "in_features", in_features)
    key = jax.random.key(0)
    params = jax.eval_shape(lambda key: cell.init(key, in_features), key)
    carry = jax.eval_shape(lambda: cell.initial_carry(()))
    return Summary(
        cell,
        _entries(params),
        _entries(jax.eval_shape(cell.initial_stats)),
        _entries(carry.carry if isinstance(carry, CountedCarry) else carry),
        step_work(cell, in_features),
        kept_bytes(cell, in_features),
    )


def step_work(cell: Any, in_features: int) -> Work:
    """Counts the products of a step, and the reductions before the loop and in a step."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda key: cell.init(key, in_features), key)

    def prepare(params: Any, key: Any) -> Any:
        return cell.prepare(params, dtype=jnp.float32, batch_shape=(BATCH,), key=key)

    weights = jax.eval_shape(prepare, params, key)
    carry = jax.eval_shape(lambda: cell.initial_carry((BATCH,)))
    carry = carry.carry if isinstance(carry, CountedCarry) else carry

    def project(weights: Any, xs: Any) -> Any:
        return cell.normalize_inputs(weights, xs, cell.project_inputs(weights, xs), None, None)[0]

    def step(weights: Any, carry: Any, x_proj: Any, key: Any) -> Any:
        t = StepInput(x_proj, cell.project_state(weights, carry), key=key)
        return cell.step(weights, carry, t)[:2]

    xs = _inputs(cell, 2, BATCH, in_features)
    before, x_proj = jax.make_jaxpr(project, return_shape=True)(weights, xs)
    x_proj = jax.eval_shape(lambda steps: jax.tree.map(lambda leaf: leaf[0], steps), x_proj)
    inside = list(_equations(jax.make_jaxpr(step)(weights, carry, x_proj, key).jaxpr))
    products = sum(e.primitive.name in PRODUCTS for e in inside)
    return Work(products, _reductions(_equations(before.jaxpr)), _reductions(inside))


def kept_bytes(cell: Any, in_features: int) -> int:
    """Counts the bytes kept for the backward pass, for each step of each example."""
    key = jax.random.key(0)
    params = jax.eval_shape(lambda key: cell.init(key, in_features), key)

    def pull_back(params: Any, xs: Any) -> Any:
        draws = key if hooks(cell).needs_key else None
        return jax.vjp(lambda params, xs: unroll(cell, params, xs, key=draws, save="carries").outputs, params, xs)[1]

    def size(steps: int) -> int:
        kept = jax.tree.leaves(jax.eval_shape(pull_back, params, _inputs(cell, steps, 1, in_features)))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in kept)

    return (size(2 * STEPS) - size(STEPS)) // STEPS


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of text with columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _html_table(rows: list[tuple[str, ...]], *, head: bool) -> str:
    kinds = ["th" if head and not index else "td" for index in range(len(rows))]
    lines = (
        "".join(f"<{kind} style='text-align: left'>{html.escape(text)}</{kind}>" for text in row)
        for kind, row in zip(kinds, rows, strict=True)
    )
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _inputs(cell: Any, steps: int, batch: int, in_features: int) -> Any:
    """The shape of a sequence, with the positions of cells that have some."""
    positions = getattr(unwrap(cell), "image_shape", ())
    if len(positions) + 1 != hooks(cell).feature_axes:
        raise ValueError(
            f"summary: the cell takes inputs with {hooks(cell).feature_axes} feature axes and does not say their sizes "
            "(image_shape). Only cells with one feature axis, or with an image_shape, have a summary."
        )
    return jax.eval_shape(lambda: jnp.zeros((steps, batch, *positions, in_features)))


def _entries(tree: Any) -> tuple[Entry, ...]:
    return tuple(Entry(".".join(path) or "h", leaf.shape, str(leaf.dtype)) for path, leaf in paths(tree))


def _listed(entries: tuple[Entry, ...]) -> str:
    return ", ".join(f"{entry.name} {entry.shape}" for entry in entries)


def _reductions(equations: Any) -> int:
    """How many there are over some axis."""
    return sum(e.primitive.name.startswith("reduce_") and bool(e.params.get("axes")) for e in equations)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The operations of a program, those of inner ones too (of a function with its own derivative: of the function)."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)
