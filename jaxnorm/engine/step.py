"""Runs a cell for a single step: actors, decoders, streams, and loops of the user."""

from functools import partial
from typing import Any

import jax

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import AnyArray, Array, Bool, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Cell, check_cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.carry_forms import check_step_carry, give_back
from jaxnorm.engine.arguments.checks import (
    check_arrays,
    check_mask,
    check_params,
    check_stats,
    check_step_inputs,
    layout_shape,
)
from jaxnorm.engine.arguments.keys import Keys
from jaxnorm.engine.arguments.stripped import without_initializers
from jaxnorm.engine.unroll import unroll


@answers_keywords(foreign_keywords.UNROLL)
def step(
    cell: Cell,
    params: PyTree,
    carry: PyTree | None,
    x: Shaped[Array, "..."],
    *,
    stats: PyTree | None = None,
    where: Bool[AnyArray, "*B"] | None = None,
    reset: Bool[AnyArray, "*B"] | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | None = None,
    sequence_key: PRNGKeyArray | Shaped[Array, "2"] | None = None,
) -> tuple[PyTree, PyTree]:
    r"""Runs a cell for one step, where the next input is not known yet: actors, decoders, streams.

    .. math:: \text{carry}_t, y_t = \text{cell}(\text{carry}_{t-1}, x_t)

    Values and gradients are those of :func:`unroll` over one step. Where all inputs are known, ``unroll`` is faster: it
    prepares the weights once and computes the input products of all steps at once.

    Args:
      cell: a spec such as ``ln_lstm(128)``.
      params: its weights, from ``cell.init``.
      carry: the state before the step, in any form that :func:`unroll` takes; None starts from ``cell.initial_carry``.
      x: inputs (\*B, I) with any number of batch axes, even none. A whole sequence (T, \*B, I) cannot be told from
        a larger batch: its steps would run as examples, one step each. Pass sequences to ``unroll``.
      stats: running statistics to normalize with (inference); None measures the batch, and the moments are lost. Train
        with ``unroll``, which returns them.
      where: True on real examples (\*B). A masked one keeps its carry, outputs zeros and enters no statistics.
      reset: True replaces the carry of an example by the initial one before the step (\*B).
      key: randomness for cells that need it, for noise on the initial state and for masks; a new one at each step.
      sequence_key: randomness for the masks that all steps of a sequence share; pass the same one at each of its steps.
        Without it each step draws new masks from ``key``.

    Returns:
      The carry after the step, in the form and dtypes of the carry before it, so that a ``lax.scan`` of your own can
      carry it; and the output (\*B, H), in the compute dtype of the cell, or the output of a :class:`FunctionCell`.

    Raises:
      TypeError: an argument has the wrong structure or kind of dtype, or a carry lacks the count of a cell that has
        statistics for each step (:class:`CountedCarry`).
      ValueError: shapes do not fit together, or a cell that draws masks gets no key.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.ln_gru(4)
      >>> params = cell.init(jax.random.key(0), in_features=4)
      >>> carry, y = jaxnorm.step(cell, params, None, jnp.ones(4))
      >>> def decode(state, _):
      ...     carry, y = jaxnorm.step(cell, params, *state)
      ...     return (carry, y), y
      >>> jax.lax.scan(decode, (carry, y), length=3)[1].shape
      (3, 4)

    Notes:
      The carry keeps its dtypes even where the cell would take others: a cell state in bfloat16 stays so from step to
      step. ``cell.initial_carry(batch_shape, params=params)`` has the dtypes of the cell.
    """
    check_cell("step", "cell", cell)
    axes = hooks(cell).feature_axes
    check_step_inputs("step", "x", x, cell, "step(cell, params, carry, x)")
    layout = layout_shape(x, axes)
    where, reset = (
        check_mask("step", name, mask, layout, f"x.shape[:-{axes}]")
        for name, mask in (("where", where), ("reset", reset))
    )
    if not isinstance(params, tuple):  # check before jit, which would refuse other objects with its own message
        check_params(cell, params, "step")
    for name, tree in (("params", params), ("carry", carry), ("stats", stats)):
        check_arrays("step", name, tree)
    for name, one in (("key", key), ("sequence_key", sequence_key)):
        if one is not None:
            validate.key("step", name, one)
    # Initializers made in place never compare equal; without them equal cells share one compilation.
    arguments = _Arguments(params, carry, x, stats, where, reset, key, sequence_key)
    result: tuple[Any, Any] = _step(without_initializers(cell), arguments)
    return result


class _Arguments(NamedTuple):
    """The arrays of a call."""

    params: Any
    carry: Any
    x: Array
    stats: Any
    where: Array | None
    reset: Array | None
    key: Any
    sequence_key: Any


@partial(jax.jit, static_argnums=0)
def _step(cell: Cell, arguments: _Arguments) -> tuple[Any, Any]:
    """Checks the trees, so that errors name this function, and unrolls a sequence of one step."""
    params, carry, x, stats, where, reset, key, sequence_key = arguments
    check_params(cell, params, "step")
    if stats is not None:
        check_stats(cell, stats, "step")
    if carry is not None:
        check_step_carry("step", "carry", carry, cell, layout_shape(x, hooks(cell).feature_axes), params)
    where, reset = (None if mask is None else mask[None] for mask in (where, reset))
    if sequence_key is not None:
        noise, masks = (None, None) if key is None else jax.random.split(key)
        key = Keys(noise, masks, sequence_key)
    out = unroll(
        cell, params, x[None], carry=carry, stats=stats, where=where, reset=reset, key=key, method="scan",
    )  # fmt: skip
    return give_back(out.carry, carry, cast=True), jax.tree.map(lambda y: y[0], out.outputs)
