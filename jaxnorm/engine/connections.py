"""Stacks with connections that bypass layers: residual ones, and skips from the input and to the output."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import Array, Float, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps
from jaxnorm.engine.masked_outputs import hold
from jaxnorm.engine.stacks import Layers, check_cells, run_layers
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
    r"""Stacks several cells, each adding its input to its output.

    .. math:: x^{k+1}_t = x^k_t + \text{cell}_k(x^k)_t \quad (k \ge \text{first}), \qquad x^{k+1}_t =
       \text{cell}_k(x^k)_t \quad (k < \text{first})

    Args:
      cells: the cells, from input (k = 0) to output.
      params: the weights of each; cell k takes ``cells[k - 1].out_features`` features.
      xs: inputs, as for :func:`unroll`.
      first: the first layer with a residual connection. The default is the second layer, since inputs seldom have as
        many features as the outputs of a layer.
      carry: one carry per cell; None starts from the initial carries.
      stats: running statistics of each cell; None measures.
      key: randomness; each cell gets a key of its own.
      **options: further options of :func:`stack`.

    Returns:
      Unrolled with the outputs of the last layer, plus its input, and tuples of all carries and moments.

    Raises:
      ValueError: there is no cell, a sequence has another length than ``cells``, ``first`` is not a layer, or a layer
        with a residual connection has different numbers of input and output features.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(4))
      >>> params = [cell.init(jax.random.key(0), size) for cell, size in zip(cells, (3, 4, 4))]
      >>> jaxnorm.residual_stack(cells, params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 4)

    Notes:
      Outputs at masked steps are zero, or repeated with ``masked_outputs="hold"``. The sum is in the dtype of
      the outputs.

    Reference:
      Y. Wu et al., "Google's Neural Machine Translation System", 2016, arXiv:1609.08144, section 3.1.
    """
    check_cells("residual_stack", cells)
    if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first <= len(cells):
        raise ValueError(f"residual_stack: first must be a layer from 0 to {len(cells)}, got {first!r}.")

    def add(layer: int, xs: Array, outputs: Any) -> Any:
        if layer < first:
            return outputs
        validate.is_array("residual_stack", f"the outputs of layer {layer}", outputs)
        if xs.shape != outputs.shape:
            raise ValueError(
                f"residual_stack: layer {layer} has {xs.shape[-1]} features in and {outputs.shape[-1]} out, so the "
                "two cannot be added. Let first be a later layer."
            )
        return outputs + xs.astype(outputs.dtype)

    if first == 0 and cells:  # later layers get zeros at masked steps from the layer before
        xs = _masked(xs, hooks(cells[0]).feature_axes, options)
    return run_layers("residual_stack", Layers(cells, params, carry, stats, key), xs, add, options)


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
    r"""Stacks several cells; each also sees the input, and the output concatenates the outputs of all.

    .. math:: y^0 = \text{cell}_0(x), \qquad y^k = \text{cell}_k([y^{k-1}, x]), \qquad y = [y^0, \dots, y^{K-1}]

    where brackets concatenate features.

    Args:
      cells: the cells, from input to output.
      params: the weights of each; cell k > 0 takes the output features of the previous cell, followed by the features
        of ``xs``.
      xs: inputs, as for :func:`unroll`.
      input_to_all: whether each cell sees the input; otherwise all cells after the first see only the previous outputs.
      all_to_output: whether to return the concatenated outputs of all cells; otherwise only those of the last.
      carry: one carry per cell; None starts from the initial carries.
      stats: running statistics of each cell; None measures.
      key: randomness; each cell gets a key of its own.
      **options: further options of :func:`stack`.

    Returns:
      Unrolled with the outputs, and tuples of all carries and moments.

    Raises:
      ValueError: there is no cell, or a sequence has another length than ``cells``.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cells = (jaxnorm.ln_lstm(4), jaxnorm.ln_lstm(2))
      >>> params = [cell.init(jax.random.key(0), size) for cell, size in zip(cells, (3, 4 + 3))]
      >>> jaxnorm.skip_stack(cells, params, jnp.ones((5, 1, 3))).outputs.shape
      (5, 1, 6)

    Notes:
      Outputs at masked steps are zero, or repeated with ``masked_outputs="hold"``.

    Reference:
      A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, section 2.
    """
    check_cells("skip_stack", cells)
    every: list[Array] = []

    def concatenate(layer: int, _: Array, outputs: Any) -> Any:
        validate.is_array("skip_stack", f"the outputs of layer {layer}", outputs)
        every.append(outputs)
        last = layer == len(cells) - 1
        if last or not input_to_all:
            return outputs
        return jnp.concatenate([outputs, xs.astype(outputs.dtype)], axis=-1)

    result = run_layers("skip_stack", Layers(cells, params, carry, stats, key), xs, concatenate, options)
    if all_to_output:
        dtype = result.outputs.dtype
        result = result._replace(outputs=jnp.concatenate([outputs.astype(dtype) for outputs in every], axis=-1))
    return result


def _masked(xs: Array, feature_axes: int, options: dict[str, Any]) -> Array:
    """Replaces masked inputs, which may hold anything, as masked outputs are replaced; ``unroll`` checks the masks."""
    time, lengths = options.get("time_axis", 0), options.get("lengths")
    steps = jnp.moveaxis(xs, time, 0)
    real, reset = (
        None if options.get(name) is None else jnp.moveaxis(jnp.asarray(options[name]), time % xs.ndim, 0)
        for name in ("where", "reset")
    )
    if lengths is not None:
        within = real_steps(clip_lengths(jnp.asarray(lengths), steps.shape[0]), steps.shape[0])
        real = within if real is None else real & within
        reset = None if reset is None else reset & within
    if real is None:
        return xs
    if options.get("masked_outputs") == "hold":
        held: Array = hold(xs, real, reset, time, reverse=options.get("reverse", False))
        return held
    real = jnp.expand_dims(real, tuple(range(-feature_axes, 0)))
    return jnp.moveaxis(jnp.where(real, steps, jnp.zeros((), xs.dtype)), 0, time)
