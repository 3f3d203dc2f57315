"""Measures batch statistics of whole sequences for a norm of the input product, before the loop."""

from typing import Any

import jax

from jaxnorm._base.typing import AnyArray, Array, Bool, Integer, PyTree, Real
from jaxnorm.cells.base import Cell, check_cell
from jaxnorm.cells.carries import compute_dtype, in_floating_point
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.sites import CellNorms
from jaxnorm.engine.arguments.checks import check_inputs, check_lengths, check_mask, check_params, layout_shape
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps
from jaxnorm.engine.loops.scan import project
from jaxnorm.engine.records import PerStep
from jaxnorm.norms.core.moment_trees import is_moments
from jaxnorm.norms.core.rows import lay_in_order


def sequence_statistics(
    cell: Cell,
    params: PyTree,
    xs: Real[Array, "T *B I"],
    *,
    lengths: Integer[AnyArray, "*B"] | None = None,
    where: Bool[AnyArray, "T *B"] | None = None,
) -> CellNorms:
    r"""Measures the statistics of a cell's input product over the batch and all real steps together.

    .. math::
       \mu_k = \frac1n \sum_i \sum_{t \le T_i} (x_t W)_{i,k}, \qquad
       \sigma_k^2 = \frac1n \sum_i \sum_{t \le T_i} \bigl((x_t W)_{i,k} - \mu_k\bigr)^2

    with n the number of real steps. Pass them to :func:`unroll` as ``stats`` for sequence-wise batch normalization of
    the input product; gradients flow through them. Pass them to ``cell.update_running`` as the moments of a call.

    Args:
      cell: a cell with batch statistics at the site ``input``, and at no other.
      params: its weights.
      xs: inputs, time first.
      lengths: number of real steps of each example.
      where: True on real steps; masked inputs may hold anything, even NaN.

    Returns:
      CellNorms(input=Moments) with one row.

    Raises:
      ValueError: the cell has batch statistics elsewhere, or none at its input.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.laurent_bn_lstm(4, max_steps=1)
      >>> params, xs = cell.init(jax.random.key(0), 3), jax.random.normal(jax.random.key(1), (6, 2, 3))
      >>> stats = jaxnorm.sequence_statistics(cell, params, xs, lengths=jnp.array([6, 4]))
      >>> stats.input.count.tolist()
      [10.0]
      >>> out = jaxnorm.unroll(cell, params, xs, lengths=jnp.array([6, 4]), stats=stats)
      >>> running = cell.update_running(cell.initial_stats(), stats)

    Notes:
      This computes the input product twice, here and in the loop. It needs all future steps, so it is not for language
      models.

    Reference:
      C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch Normalized Recurrent Neural Networks", 2015,
      arXiv:1510.01378, sequence-wise normalization.
    """
    check_cell("sequence_statistics", "cell", cell)
    axes = hooks(cell).feature_axes
    check_inputs("sequence_statistics", "xs", xs, axes)
    check_params(cell, params, "sequence_statistics")
    initial: Any = jax.eval_shape(cell.initial_stats)
    with_statistics = [name for name, site in zip(CellNorms._fields, initial, strict=True) if jax.tree.leaves(site)]
    if with_statistics != ["input"] or not is_moments(initial.input):
        raise ValueError(
            "sequence_statistics: only the norm at the site 'input' may have batch statistics, mean and variance, got "
            f"those at {with_statistics}. A norm in the loop cannot wait for the last step."
        )
    layout = layout_shape(xs, axes)
    lengths = check_lengths("sequence_statistics", "lengths", lengths, layout[1:])
    where = check_mask("sequence_statistics", "where", where, layout, f"xs.shape[:-{axes}]")
    if lengths is not None:
        real = real_steps(clip_lengths(lengths, xs.shape[0]), xs.shape[0])
        where = real if where is None else where & real
    dtype = compute_dtype(cell, params, xs.dtype)
    weights = cell.prepare(params, dtype=dtype, batch_shape=layout[1:])
    _, moments = project(cell, weights, in_floating_point(xs, dtype), None, PerStep(where=where))
    return CellNorms(input=lay_in_order(moments.input, 1))
