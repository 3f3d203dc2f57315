"""Activations and gradients of a recurrent cell through time: percentiles and norms at every step."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import AnyArray, Array, Axis, Bool, Float, Int, Integer, PyTree, Real
from jaxnorm.analysis.recording import Recording
from jaxnorm.cells.base import Cell, CountedCarry, Key, check_cell
from jaxnorm.cells.carries import compute_dtype, in_floating_point
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.checks import check_inputs
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps
from jaxnorm.engine.unroll import Unrolled, unroll
from jaxnorm.norms.core.moments import full_mask, statistics_dtype


class ActivationStatistics(NamedTuple):
    """The result of :func:`activation_statistics`; time is the first axis, whatever the layout of the inputs."""

    outputs: Float[Array, "T P"]
    """Percentiles of the outputs at each step, over the real examples and all features."""
    carry: PyTree
    """The same for every entry of the carry after each step: a carry with entries (T, P)."""
    gradient_norms: Float[Array, "T *B"] | tuple[()]
    """The norm of dL/dh at each step and example; zero at masked steps, () without a loss."""
    real: Int[Array, " T"]
    """Number of real examples at each step; if it is zero, so are the percentiles."""


def percentiles(
    x: Float[Array, "..."],
    levels: tuple[float, ...] = (15.0, 50.0, 85.0),
    *,
    axis: Axis | None = None,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "... P"]:
    """Computes percentiles of the real elements along some axes, with linear interpolation.

    Call it on the activations of a layer every few training steps, with the levels 15, 50 and 85, to get the curves of
    figure 1 of the batch normalization paper.

    Args:
      x: data.
      levels: P numbers in [0, 100].
      axis: the axes to take percentiles over; None means all.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, even NaN.

    Returns:
      The percentiles on a last axis, after the remaining axes, in at least float32; zeros where no element is real.

    Raises:
      TypeError: ``x`` is not floating, or ``where`` not boolean.
      ValueError: a level is not in [0, 100], an axis is out of range, or ``where`` does not fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> x = jnp.array([0.0, 10.0, 20.0, jnp.nan])
      >>> analysis.percentiles(x, (0.0, 25.0, 50.0), where=jnp.array([True, True, True, False])).tolist()
      [0.0, 5.0, 10.0]

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, section 4.1 and figure 1.
    """
    validate.floating("percentiles", "x", x)
    for level in levels:
        validate.in_range("percentiles", "levels", level, 0.0, 100.0)
    axes = tuple(range(x.ndim)) if axis is None else validate.axes("percentiles", axis, x.ndim)
    mask = full_mask("percentiles", x, where)
    real = jnp.ones(x.shape, bool) if mask is None else jnp.broadcast_to(mask, x.shape)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    order, shape = (*kept, *axes), (*(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes))
    x, real = (jnp.transpose(array, order).reshape(shape) for array in (x, real))
    dtype = statistics_dtype(x.dtype)
    if not shape[-1]:
        return jnp.zeros((*shape[:-1], len(levels)), dtype)
    # Masked elements sort to the end, beyond the count.
    ordered = jnp.sort(jnp.where(real, x.astype(dtype), jnp.asarray(jnp.inf, dtype)), axis=-1)
    last = (jnp.sum(real, axis=-1, keepdims=True, dtype=jnp.int32) - 1).astype(dtype)
    place = jnp.maximum(last, jnp.zeros((), dtype)) * (jnp.asarray(levels, dtype) / 100.0).reshape(
        (1,) * (x.ndim - 1) + (-1,)
    )
    below, above = (round_(place).astype(jnp.int32) for round_ in (jnp.floor, jnp.ceil))
    low, high = (jnp.take_along_axis(ordered, index, axis=-1) for index in (below, above))
    between = place - jnp.floor(place)
    # If both are the same place, do not interpolate: an infinite element would give NaN.
    value = jnp.where(below == above, low, low * (1.0 - between) + high * between)
    return jnp.where(last >= 0, value, jnp.zeros((), dtype))


def activation_statistics(
    cell: Cell,
    params: PyTree,
    xs: Real[Array, "..."],
    *,
    loss: Callable[[Unrolled], Float[Array, ""]] | None = None,
    levels: tuple[float, ...] = (15.0, 50.0, 85.0),
    carry: PyTree | None = None,
    lengths: Integer[AnyArray, "*B"] | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    reset: Bool[AnyArray, "..."] | None = None,
    stats: PyTree | None = None,
    key: Key | None = None,
    reverse: bool = False,
    time_axis: int = 0,
) -> ActivationStatistics:
    r"""Runs a cell as :func:`jaxnorm.unroll` does, and measures its activations and gradients through time.

    For each step it computes percentiles of the outputs and of every entry of the carry, and for each example the norm

    .. math:: \Bigl\| \frac{dL}{dh_t} \Bigr\|_2

    of the total derivative of a loss with respect to the hidden state, along all paths: through the output of the step
    and through all later steps. This is the derivative with respect to a zero perturbation of both h in the carry and
    the output.

    Args:
      cell: a cell spec. With a loss its carry must have an entry ``h`` that is also its output, as in all cells here.
      params: its weights.
      xs: inputs (T, \*B, I), laid out as for ``unroll``.
      loss: a scalar function of the result of ``unroll``; None computes no gradients.
      levels: the percentiles, P numbers in [0, 100].
      carry: see ``unroll``, as for all arguments below.
      lengths: real steps of each example.
      where: True on real steps.
      reset: True replaces the carry by the initial one.
      stats: running statistics to normalize with; None measures.
      key: randomness for cells that need it.
      reverse: runs from the last step to the first. All results keep the positions of the inputs.
      time_axis: the axis of time in ``xs``, ``where`` and ``reset``.

    Returns:
      ActivationStatistics(outputs, carry, gradient_norms, real).

    Raises:
      TypeError: as ``unroll``.
      ValueError: as ``unroll``; a loss with a cell whose output is not its h; a level outside of [0, 100].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxnorm import analysis, ln_lstm
      >>> cell = ln_lstm(8)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> xs = jax.random.normal(jax.random.key(1), (5, 2, 3))  # T, B, I
      >>> found = analysis.activation_statistics(cell, params, xs, loss=lambda out: jnp.sum(out.carry.h ** 2))
      >>> found.outputs.shape, found.carry.c.shape, found.gradient_norms.shape
      ((5, 3), (5, 3), (5, 2))

    Notes:
      A pure function; under ``jit`` make ``cell``, ``loss`` and ``levels`` static. It stores the carries of all steps.

    Reference:
      S. Ioffe, C. Szegedy, "Batch Normalization", 2015, arXiv:1502.03167, figure 1, which shows percentiles through
      training; here they run through the steps of a sequence. Gradient norms through time: T. Cooijmans et al.,
      "Recurrent Batch Normalization", 2017, arXiv:1603.09025, figure 1.
    """
    name = "activation_statistics"
    check_cell(name, "cell", cell)
    check_inputs(name, "xs", xs, hooks(cell).feature_axes)
    lengths, where, reset = (None if a is None else jnp.asarray(a) for a in (lengths, where, reset))
    options = {"carry": carry, "lengths": lengths, "where": where, "reset": reset, "stats": stats, "key": key}

    def run(cell: Cell, params: Any, xs: Array, options: dict[str, Any]) -> Unrolled:
        result: Unrolled = unroll(cell, params, xs, reverse=reverse, time_axis=time_axis, **options)
        return result

    plain = jax.eval_shape(partial(run, cell), params, xs, options)  # also checks the arguments
    xs = in_floating_point(xs, compute_dtype(cell, params, xs.dtype))
    state = plain.carry.carry if isinstance(plain.carry, CountedCarry) else plain.carry
    (time,) = validate.axes(name, time_axis, xs.ndim)
    layout = xs.ndim - hooks(cell).feature_axes
    batch_shape = xs.shape[:time] + xs.shape[time + 1 : layout]
    features = plain.outputs.shape[layout:]
    hidden, width = getattr(state, "h", None), math.prod(features)
    if loss is not None and (hidden is None or hidden.shape != (*batch_shape, *features)):
        raise ValueError(
            f"{name}: with a loss the carry must have an entry h like the output, of shape "
            f"{(*batch_shape, *features)}, got {None if hidden is None else hidden.shape}. Leave loss out for a cell "
            "whose output is not its h."
        )
    recording = Recording(
        cell, compute_dtype(cell, params, xs.dtype), jnp.dtype(xs.dtype), xs.shape[layout:], len(batch_shape),
        perturbs=loss is not None,
    )  # fmt: skip
    wide = statistics_dtype(xs.dtype)
    inputs = xs.astype(wide).reshape(*xs.shape[:layout], -1)

    def measure(perturbation: Array) -> tuple[Array, Array]:
        result = run(recording, params, jnp.concatenate([inputs, perturbation], axis=-1), options)
        outputs = result.outputs[..., :width].astype(plain.outputs.dtype).reshape(plain.outputs.shape)
        value = jnp.zeros((), wide) if loss is None else loss(result._replace(outputs=outputs))
        return value, jnp.moveaxis(result.outputs, time, 0)

    norms: Any = ()
    if loss is None:
        _, recorded = measure(jnp.zeros((*xs.shape[:layout], 0), wide))
    else:
        gradient, recorded = jax.grad(measure, has_aux=True)(jnp.zeros((*xs.shape[:layout], width), wide))
        norms = jnp.sqrt(jnp.sum(jnp.square(jnp.moveaxis(gradient, time, 0)), axis=-1))
    real = _real(xs.shape[time], batch_shape, None if where is None else jnp.moveaxis(where, time, 0), lengths)

    def over_step(entry: Array) -> Array:
        return percentiles(entry, levels, axis=tuple(range(1, entry.ndim)), where=real[..., None])

    outputs, entries = _unpack(recorded, width, state, len(batch_shape))
    count = jnp.sum(real, axis=tuple(range(1, real.ndim)), dtype=jnp.int32)
    return ActivationStatistics(over_step(outputs), jax.tree.map(over_step, entries), norms, count)


def _real(steps: int, batch_shape: tuple[int, ...], where: Array | None, lengths: Array | None) -> Array:
    """Marks real steps with True, time first."""
    real = jnp.ones((steps, *batch_shape), bool) if where is None else where
    return real if lengths is None else real & real_steps(clip_lengths(lengths, steps), steps)


def _unpack(recorded: Array, width: int, state: Any, batch_axes: int) -> tuple[Array, Any]:
    """Splits the record into outputs and carry entries of every step; each entry has its features on one axis."""
    leaves, structure = jax.tree.flatten(state)
    entries, low = [], width
    for leaf in leaves:
        size = math.prod(leaf.shape[batch_axes:])
        entries.append(recorded[..., low : low + size])
        low += size
    return recorded[..., :width], jax.tree.unflatten(structure, entries)
