"""Stacks with connections past a layer: residual ones, and from the input and to the output."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxnorm._typing import Array, Float, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Cell
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps
from jaxnorm.engine.stacks import check_cells, run_layers
from jaxnorm.engine.unroll import Unrolled


def residual_stack(
    cells: Sequence[Cell],
    params: Sequence[PyTree],
    xs: Float[Array, "..."],
    *,
    first: int = 1,
    carry: Sequence[PyTree] | None = None,
    stats: Sequence[PyTree] | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | None = None,
    **options: Any,
) -> Unrolled:
    r"""Runs several cells one upon the other, each adding its input to its output.

    .. math:: x^{k+1}_t = x^k_t + \text{cell}_k(x^k)_t \quad (k \ge \text{first}), \qquad x^{k+1}_t =
       \text{cell}_k(x^k)_t \quad (k < \text{first})

    Args:
      cells: the cells, the one nearest to the input (k = 0) first.
      params: the weights of each; cell k takes ``cells[k - 1].out_features`` features.
      xs: inputs, as for :func:`unroll`.
      first: the first layer with a residual connection. By default the one after the first, since inputs seldom have as
        many features as the outputs of a layer.
      carry: one carry per cell; None starts from the initial carries.
      stats: running statistics of each cell; None measures.
      key: randomness; each cell gets a key of its own.
      **options: further options of :func:`stack`.

    Returns:
      Unrolled with the outputs of the last layer, its input added, and tuples of the carries and moments of all.

    Raises:
      ValueError: there is no cell, a sequence has another length than ``cells``, ``first`` is no layer, or a layer with
        a residual connection has other features in than out.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(4))
      >>> params = [cell.init(jax.random.key(0), size) for cell, size in zip(cells, (3, 4, 4))]
      >>> jaxnorm.residual_stack(cells, params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 4)

    Notes:
      Outputs at masked steps are zero. The sum is in the dtype of the outputs.

    Reference:
      Y. Wu et al., "Google's Neural Machine Translation System", 2016, arXiv:1609.08144, section 3.1.
    """
    check_cells("residual_stack", cells)
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first <= len(cells):
        raise ValueError(f"residual_stack: first must be a layer from 0 to {len(cells)}, got {first!r}.")

    def after(layer: int, given: Array, outputs: Array) -> Array:
        if layer < first:
            return outputs
        if given.shape != outputs.shape:
            raise ValueError(
                f"residual_stack: layer {layer} has {given.shape[-1]} features in and {outputs.shape[-1]} out, so the "
                "two cannot be added. Let first be a later layer."
            )
        return outputs + given.astype(outputs.dtype)

    if first == 0:  # later layers get zeros at masked steps from the layer before
        xs = _without_padding(xs, options)
    return run_layers("residual_stack", after, cells, params, xs, carry, stats, key, options)


def skip_stack(
    cells: Sequence[Cell],
    params: Sequence[PyTree],
    xs: Float[Array, "..."],
    *,
    input_to_all: bool = True,
    all_to_output: bool = True,
    carry: Sequence[PyTree] | None = None,
    stats: Sequence[PyTree] | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | None = None,
    **options: Any,
) -> Unrolled:
    r"""Runs several cells one upon the other; each sees the input too, and the output has the outputs of all.

    .. math:: y^0 = \text{cell}_0(x), \qquad y^k = \text{cell}_k([y^{k-1}, x]), \qquad y = [y^0, \dots, y^{K-1}]

    with features side by side in brackets.

    Args:
      cells: the cells, the one nearest to the input first.
      params: the weights of each; the features that cell k > 0 takes are those of the outputs of the cell before, and
        after them those of ``xs``.
      xs: inputs, as for :func:`unroll`.
      input_to_all: whether each cell sees the input; else all but the first see the outputs before them alone.
      all_to_output: whether the outputs of all cells are handed out, side by side; else those of the last.
      carry: one carry per cell; None starts from the initial carries.
      stats: running statistics of each cell; None measures.
      key: randomness; each cell gets a key of its own.
      **options: further options of :func:`stack`.

    Returns:
      Unrolled with the outputs, and tuples of the carries and moments of all.

    Raises:
      ValueError: there is no cell, or a sequence has another length than ``cells``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(2))
      >>> params = [cell.init(jax.random.key(0), size) for cell, size in zip(cells, (3, 4 + 3))]
      >>> jaxnorm.skip_stack(cells, params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 6)

    Notes:
      Outputs at masked steps are zero.

    Reference:
      A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, section 2.
    """
    check_cells("skip_stack", cells)
    every: list[Array] = []

    def after(layer: int, given: Array, outputs: Array) -> Array:
        every.append(outputs)
        last = layer == len(cells) - 1
        if last or not input_to_all:
            return outputs
        return jnp.concatenate([outputs, xs.astype(outputs.dtype)], axis=-1)

    result = run_layers("skip_stack", after, cells, params, xs, carry, stats, key, options)
    if all_to_output:
        dtype = result.outputs.dtype
        result = result._replace(outputs=jnp.concatenate([outputs.astype(dtype) for outputs in every], axis=-1))
    return result


def _without_padding(xs: Array, options: dict[str, Any]) -> Array:
    """Inputs with zeros at masked steps, which may hold anything; bad masks are left to ``unroll``."""
    time, lengths, where = options.get("time_axis", 0), options.get("lengths"), options.get("where")
    steps = jnp.moveaxis(xs, time, 0)
    real = None if where is None else jnp.moveaxis(jnp.asarray(where), time % xs.ndim, 0)
    if lengths is not None:
        within = real_steps(clip_lengths(jnp.asarray(lengths), steps.shape[0]), steps.shape[0])
        real = within if real is None else real & within
    if real is None:
        return xs
    return jnp.moveaxis(jnp.where(real[..., None], steps, jnp.zeros((), xs.dtype)), 0, time)
