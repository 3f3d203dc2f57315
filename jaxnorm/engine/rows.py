"""Rows of per-step statistics: finds the row that serves an example at a step, and the rows that its moments enter."""

import math
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array, Bool, Int
from jaxnorm.cells.base import Cell
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.core.moment_trees import is_moments, map_moments
from jaxnorm.norms.core.moments import Moments, ratio
from jaxnorm.norms.core.named_axes import across, named_axes
from jaxnorm.norms.core.rows import lay_in_order


def count_rows(cell: Cell, stats: Any) -> int:
    """Returns the number of rows: that of the statistics to normalize with, else that of the moments of the cell."""
    tables = jax.tree.leaves(stats)
    return tables[0].shape[0] if tables else cell.max_steps


def serving_rows(stats: Any, age: Int[Array, "T *B"] | None, steps: int) -> Array | None:
    """Returns the row of running statistics for each example at each step; the last row serves all later ages."""
    tables = jax.tree.leaves(stats)
    if not tables:
        return None
    return jnp.zeros((steps,), jnp.int32) if age is None else jnp.minimum(age, jnp.int32(tables[0].shape[0] - 1))


def examples_of_age(age: Int[Array, "T *B"], where: Bool[Array, "T *B"] | None, rows: int) -> Int[Array, "T R"]:
    """Counts the real examples in each row at each step; the last row holds all later ages."""
    row = jnp.minimum(age, jnp.int32(rows - 1))
    real = jnp.ones(row.shape, jnp.int32) if where is None else where.astype(jnp.int32)
    if any(jax.typeof(row).sharding.spec):
        # On a mesh with explicit axes, segment_sum does not work on sharded examples: compare and sum instead.
        every = jnp.arange(rows, dtype=jnp.int32).reshape((1,) * row.ndim + (rows,))
        here = jnp.where(row[..., None] == every, real[..., None], jnp.int32(0))
        return jnp.sum(here, axis=tuple(range(1, row.ndim)))
    flat = (row.shape[0], math.prod(row.shape[1:]))
    counted: Array = jax.vmap(partial(jax.ops.segment_sum, num_segments=rows))(real.reshape(flat), row.reshape(flat))
    return counted


def lay_rows(cell: Cell, measured: CellNorms, examples: Int[Array, "T R"] | None) -> CellNorms:
    """Averages the moments of all steps, at all sites, into the rows of a cell.

    Args:
      cell: the cell.
      measured: moments with a leading axis of steps, in processing order if ``examples`` is None.
      examples: the number of examples of each age at each step; None if every example is as old as the sequence.
    """
    spanned: dict[Any, Any] = {None: examples}

    def over(named: Any) -> Any:
        if named not in spanned:
            spanned[named] = across(cast(Array, examples), named)
        return spanned[named]

    def at_site(name: str, spec: Any, moments: Any) -> Any:
        def lay(one: Any) -> Moments:
            if not is_moments(one):
                raise TypeError(
                    f"unroll: the normalizer at the site {name!r}, {spec!r}, measured an array where Moments are "
                    "expected. Statistics inside of a cell are means and variances; let it return Moments or ()."
                )
            if examples is None:
                return lay_in_order(one, cell.max_steps)
            groups = getattr(spec, "axis_index_groups", None)
            return lay_by_age(one, over(named_axes("unroll", getattr(spec, "axis_name", None), groups)))

        return map_moments(lay, moments)

    return CellNorms(*map(at_site, CellNorms._fields, cell.sites, measured))


def lay_by_age(measured: Moments, examples: Int[Array, "T R"]) -> Moments:
    r"""Averages each step into the rows of the ages of its examples.

    .. math::
       w_{t,r} = \frac{n_{t,r}}{n_r}, \qquad n_r = \sum_t n_{t,r}, \qquad
       \mu_r = \sum_t w_{t,r} \mu_t, \qquad
       \sigma_r^2 = \sum_t w_{t,r} \bigl(\sigma_t^2 + (\mu_t - \mu_r)^2\bigr)

    where :math:`n_{t,r}` is the share of the elements of step t that belongs to examples of age r.

    Args:
      measured: statistics with a leading axis of T steps.
      examples: the number of examples of each age at each step, summed over all devices that the statistics span.

    Returns:
      Moments with a leading axis of R rows. Their counts :math:`n_r` add up to those of ``measured``.
    """
    if measured.count.ndim > 1:  # each feature has its own count, so its own weights
        apart: Moments = jax.vmap(lay_by_age, (1, None), 1)(measured, examples)
        return apart
    dtype = measured.count.dtype
    every = jnp.sum(examples, axis=1).astype(dtype)
    parts = examples.astype(dtype) * ratio(measured.count, every)[:, None]
    count = jnp.sum(parts, axis=0)
    # The weight is exactly one if a row has a single step, so the row equals that step.
    weight = parts / jnp.where(count > 0, count, jnp.ones((), dtype))[None]

    def average(weight: Array, values: Array) -> Array:
        return jnp.tensordot(weight.astype(values.dtype), values, axes=1, precision=lax.Precision.HIGHEST)

    @jax.checkpoint  # else the derivative would store an array with all steps for each row
    def shared(mean: Array, weight: Array) -> tuple[Array, Array]:
        # Correct the rounding of the mean that the matmul over all rows lost, and measure the spread around it.
        deviation = measured.mean - mean[None]
        shift = average(weight, deviation)
        return mean + shift, average(weight, jnp.square(deviation)) - jnp.square(shift)

    def row(mean_and_weight: tuple[Array, Array]) -> tuple[Array, Array]:
        mean, weight = mean_and_weight
        several = jnp.count_nonzero(weight) > 1  # a row of a single step is exact already
        refined: tuple[Array, Array] = lax.cond(
            several, shared, lambda mean, _: (mean, jnp.zeros_like(mean)), mean, weight
        )
        return refined

    mean, var = average(weight.T, measured.mean), average(weight.T, measured.var)
    if parts.shape[0] != 1:
        mean, between = lax.map(row, (mean, weight.T))
        var = var + between
    return Moments(mean, var, count)
