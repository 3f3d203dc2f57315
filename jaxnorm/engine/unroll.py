"""Runs a cell over sequences: the public call, with masks, lengths, resets, directions and layouts."""

import math
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.reverse_mode import for_reverse_mode
from jaxnorm._base.typing import Array, Bool, Integer, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Carry, Cell, CountedCarry, LinearCell, check_cell
from jaxnorm.cells.carries import compute_dtype, in_floating_point
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.sites import CellNorms, combine_sites
from jaxnorm.engine.arguments.carry_forms import fit_carry
from jaxnorm.engine.arguments.checks import (
    check_arrays,
    check_inputs,
    check_lengths,
    check_mask,
    check_params,
    check_stats,
    layout_shape,
)
from jaxnorm.engine.arguments.keys import Keys, split_key
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps, reversed_steps, take_steps
from jaxnorm.engine.arguments.options import Options, check_options
from jaxnorm.engine.arguments.sharding import batch_sharding, feature_sharding, flat_moments, shard_alike, vary_alike
from jaxnorm.engine.arguments.step_index import cuts, step_counts
from jaxnorm.engine.arguments.stripped import without_initializers
from jaxnorm.engine.loops.associative_scan import associative
from jaxnorm.engine.loops.chunked import run_chunks
from jaxnorm.engine.loops.chunks import chunk_length
from jaxnorm.engine.loops.scan import scan_steps
from jaxnorm.engine.masked_outputs import hold
from jaxnorm.engine.parts import choose_parts, run_parts
from jaxnorm.engine.records import CarryOutputs, Chunk, ChunkPlan, LoopInputs, LoopOutputs, PerStep
from jaxnorm.engine.returned_carries import lay_carries
from jaxnorm.engine.rows import count_rows, examples_of_age, lay_rows, serving_rows
from jaxnorm.engine.spread_carry import spread_features


class Unrolled(NamedTuple):
    r"""The result of :func:`unroll`.

    Attributes:
      outputs: (T, \*B, H), laid out like the input; a tree of such arrays if a :class:`FunctionCell` returns one.
      carry: the carry after the last step; pass it to the next call to continue.
      moments: the moments that the normalizers measured, for ``cell.update_running`` and :func:`jaxnorm.population`, in
        the ``max_steps`` rows of the cell (leading axis); empty if you passed running statistics. Row r averages the
        statistics of the steps with examples of age r (r real steps after their sequence began), weighted by the number
        of such examples; the last row holds all later ages. Its variance includes the spread between the means of these
        steps. The count of a row is the number of elements that its
        examples contributed: the rows share the measured counts, so pieces and devices weigh as much as they measured,
        and a row without examples has count zero. If each age occurs at one step, the row is that step, with the count
        that ``ddof=1`` corrects by. If ages mix within steps, ``ddof=1`` corrects rows with few examples too much.
      carries: with ``return_carries`` the carry after each step, laid out like the outputs; else None.
    """

    outputs: PyTree
    carry: PyTree
    moments: PyTree
    carries: PyTree = None


@answers_keywords(foreign_keywords.UNROLL)
def unroll(
    cell: Cell,
    params: PyTree,
    xs: Shaped[Array, "..."],
    *,
    carry: PyTree | None = None,
    lengths: Integer[Array, "*B"] | None = None,
    where: Bool[Array, "..."] | None = None,
    reset: Bool[Array, "..."] | None = None,
    stats: PyTree | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | Keys | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    method: str = "chunked",
    chunk: int | None = None,
    save: str = "carries",
    truncate: int | None = None,
    masked_outputs: str = "zero",
    return_carries: bool = False,
) -> Unrolled:
    r"""Runs a cell over sequences.

    .. math:: \text{carry}_t, y_t = \text{cell}(\text{carry}_{t-1}, x_t), \qquad t = 0, \dots, T - 1

    It computes the input products of all steps (of a chunk) at once; the loop contains one matrix product per step. It
    is a pure function and updates nothing. It works under ``jit``, ``grad``, ``vmap`` and ``shard_map``, on batches
    sharded over devices, and inside Flax modules.

    Args:
      cell: a spec such as ``ln_lstm(128)``.
      params: its weights, from ``cell.init``.
      xs: inputs (T, \*B, I): time first, then any number of batch axes (even none), then features. Pass ``time_axis``
        if time is another axis. Integers and booleans are converted to the compute dtype.
      carry: the state before the first step, as an earlier call returned it; None starts from ``cell.initial_carry``.
        It may have the form of another library, too: a tuple or list of the entries in the order of the fields, (c, h)
        of an LSTM; a dict or NamedTuple with their names, where ``hidden`` means h and ``cell`` means c; the array
        itself if there is one entry. A plain tuple (h, c) of PyTorch or Keras cannot be told from (c, h): pass a dict.
        A carry without the count of a :class:`CountedCarry` begins a sequence. It is cast to the dtypes of the cell.
      lengths: number of real steps of each example (\*B). All later steps are masked, and resets there are ignored. An
        example of length zero returns its carry unchanged. Lengths above T count as T.
      where: True on real steps, laid out like ``xs`` without the features. A masked step keeps the carry, outputs zeros
        (see ``masked_outputs``) and does not enter statistics; its inputs may hold anything, even NaN.
      reset: True at t replaces the carry by the initial one before step t (masked or not); laid out like ``where``.
      stats: running statistics to normalize with (inference); None measures each batch (training).
      key: randomness for cells that need it: for noise on the initial state, and for masks.
      reverse: runs from the last step to the first; each output keeps the position of its input. With ``lengths`` each
        example begins at its own last real step. A reset at t takes effect before step t is processed.
      time_axis: the axis of time in ``xs``, ``where``, ``reset`` and the outputs. The chunked method reads and writes
        sequences in this layout; the methods ``scan`` and ``associative`` transpose them once.
      method: ``"chunked"`` processes one chunk of steps at a time and has its own derivative, for reverse mode (also
        repeated, and forward mode over it as in ``jax.hessian``): it saves only carries, and computes the gradients of
        the weights once per chunk instead of once per step. ``"scan"`` is one loop, differentiated by JAX, for forward
        mode (``jax.jvp``, ``jax.linearize``, ``jax.jacfwd``) and other transformations. ``"associative"`` processes all
        steps at once, in about log T rounds, for cells that are linear in the carry (:class:`jaxnorm.zoo.MinGRU`, any
        :class:`LinearCell`).
      chunk: number of steps in a chunk of the chunked method; None chooses it.
      save: what the chunked method saves for the backward pass: the carry before each step (``"carries"``), or only
        the carry before each chunk (``"chunks"``), which recomputes the others and takes least memory with long chunks.
      truncate: stops the gradient from passing to the previous step at every ``truncate``-th step, counted in
        processing order from the first (truncated back-propagation). A carry that you pass in then gets no gradient; a
        learned initial carry gets the gradient of the steps up to the first cut after it.
      masked_outputs: what masked steps put out: zeros (``"zero"``), or the output of the last real step before them in
        processing order (``"hold"``), and zeros before the first real step of the call or after a reset. The gradient
        of a repeated output goes to the step that made it.
      return_carries: whether to return the carry after each step, too; a masked step has the carry that it kept.

    Returns:
      Unrolled(outputs, carry, moments, carries). Outputs have the compute dtype of the cell.

    Raises:
      TypeError: an array has the wrong kind of dtype, ``carry`` has the wrong structure, you differentiate the chunked
        method in forward mode, or use the associative method with a cell that is not linear.
      ValueError: shapes do not fit together, a word is unknown, a number of steps is not positive, ``chunk`` or
        ``save`` comes with a method other than the chunked one, or ``truncate`` with the associative one.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.ln_gru(4)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> xs = jax.random.normal(jax.random.key(1), (6, 2, 3))  # T, B, I
      >>> whole = jaxnorm.unroll(cell, params, xs, lengths=jnp.array([6, 4]))
      >>> first = jaxnorm.unroll(cell, params, xs[:2])
      >>> rest = jaxnorm.unroll(cell, params, xs[2:], carry=first.carry, lengths=jnp.array([4, 2]))
      >>> bool(jnp.allclose(whole.carry.h, rest.carry.h, atol=1e-6))
      True

    Notes:
      With T = 0 the carry comes back unchanged. Gradients with respect to masked inputs are zero.
    """
    check_cell("unroll", "cell", cell)
    axes = hooks(cell).feature_axes
    check_inputs("unroll", "xs", xs, axes, any_dtype=not hooks(cell).fixes_params)
    (time,) = validate.axes("unroll", time_axis, xs.ndim)
    layout = layout_shape(xs, axes)
    if time >= len(layout):
        raise ValueError(f"unroll: time_axis={time_axis} is the feature axis of xs with shape {xs.shape}.")
    batch_shape = layout[:time] + layout[time + 1 :]
    where, reset = (
        check_mask("unroll", name, mask, layout, f"xs.shape[:-{axes}]")
        for name, mask in (("where", where), ("reset", reset))
    )
    lengths = check_lengths("unroll", "lengths", lengths, batch_shape)
    if not isinstance(params, tuple):  # check before jit, which would refuse other objects with its own message
        check_params(cell, params)
    for name, tree in (("params", params), ("carry", carry), ("stats", stats)):
        check_arrays("unroll", name, tree)
    if key is not None and not isinstance(key, Keys):
        validate.key("unroll", "key", key)
    words: Any = (save, masked_outputs)  # check_options sees to them
    options = Options(reverse, time, method, chunk, words[0], truncate, words[1], return_carries)
    check_options(cell, options)
    # Initializers made in place never compare equal; without them equal cells share one compilation.
    arguments = _Arguments(params, xs, carry, lengths, where, reset, stats, key)
    result: Unrolled = _unroll(without_initializers(cell), options, arguments)
    return result


class _Arguments(NamedTuple):
    """The arrays of a call."""

    params: Any
    xs: Array
    carry: Any
    lengths: Array | None
    where: Array | None
    reset: Array | None
    stats: Any
    key: Array | Keys | None


_FORWARD_MODE = (
    "unroll: method='chunked' has no forward-mode derivative (jax.jvp, jax.linearize, jax.jacfwd). Pass "
    "method='scan', in Flax modules engine={'method': 'scan'}; values and gradients are the same."
)


@partial(jax.jit, static_argnums=(0, 1))
def _unroll(cell: Cell, options: Options, arguments: _Arguments) -> Unrolled:
    """Converts the arguments to a common form (one time-major mask, one carry) and calls the loop."""
    params, xs, carry, lengths, where, reset, stats, key = arguments
    reverse, time, method, chunk, save, truncate, masked_outputs, return_carries = options
    check_params(cell, params)
    if stats is not None:
        check_stats(cell, stats)
    anew = carry is None
    in_step = anew and where is None and reset is None  # all real examples of a step have the same age
    axes = hooks(cell).feature_axes
    layout = layout_shape(xs, axes)
    steps, batch_shape = layout[time], layout[:time] + layout[time + 1 :]
    batch = batch_sharding(xs, time, axes)
    where, reset = (None if a is None else jnp.moveaxis(a, time, 0) for a in (where, reset))
    lengths, (where, reset) = shard_alike(xs, batch, lengths), shard_alike(xs, batch, (where, reset), lead=1)
    if lengths is not None:
        lengths = clip_lengths(lengths, steps)
        real = real_steps(lengths, steps)
        where = real if where is None else where & real
        reset = None if reset is None else reset & real
    in_place, padding = (where, reset, reverse), None
    if lengths is not None and reverse:
        # Reverse the real steps and leave padding at the end, so that every example starts at step 0.
        order = reversed_steps(lengths, steps)
        xs, where = take_steps(xs, order, time), take_steps(where, order)
        reset = None if reset is None else take_steps(reset, order)
        reverse, padding = False, (order, lengths)

    dtype = compute_dtype(cell, params, xs.dtype)
    xs = in_floating_point(xs, dtype) if hooks(cell).fixes_params else xs
    carry_key, step_key, sequence_key = split_key(key)
    begin = partial(cell.initial_carry, batch_shape, params=params, dtype=dtype)
    carry, initial = shard_alike(xs, batch, _first_carries(begin, carry, carry_key, resets=reset is not None))
    start = carry
    carry, clock = (carry.carry, carry.step) if isinstance(carry, CountedCarry) else (carry, None)
    age = None
    if clock is not None or count_rows(cell, stats) > 1:
        age, after = step_counts(clock, steps, where, reset, batch_shape, reverse=reverse)
        clock = None if clock is None else after
    per_step = PerStep(
        row=serving_rows(stats, age, steps),
        where=where,
        reset=reset,
        cut=None if truncate is None else cuts(truncate, steps, where, reset, anew=anew, reverse=reverse),
        key=None if step_key is None else jax.random.split(step_key, steps),
        age=age if hooks(cell).uses_age else None,
    )
    weights = cell.prepare(params, dtype=dtype, batch_shape=batch_shape, key=sequence_key)
    inputs = LoopInputs(weights, carry, initial if reset is not None else None, xs, stats)
    inputs = vary_alike(spread_features(cell, inputs), where)

    def at_once(inputs: LoopInputs, per_step: PerStep) -> LoopOutputs:
        """Runs all steps as a single chunk, time first."""
        inputs = inputs._replace(xs=jnp.moveaxis(inputs.xs, time, 0))
        if method == "associative":
            return associative(cast(LinearCell, cell), inputs, per_step, reverse=reverse, carries=return_carries)
        chunk = Chunk(inputs.xs, per_step, ())
        last, results = scan_steps(
            cell, inputs, inputs.carry, chunk, reverse=reverse, carries=CarryOutputs(after=return_carries)
        )
        input_moments, step_moments, _, after = results.time_major
        return LoopOutputs(last, results.in_layout, input_moments, step_moments, after)

    def run(inputs: LoopInputs, per_step: PerStep) -> LoopOutputs:
        """Runs all steps by the method; outputs are laid out like the inputs."""
        if method != "chunked":
            found = at_once(inputs, per_step)
            return found._replace(outputs=jax.tree.map(lambda y: jnp.moveaxis(y, 0, time), found.outputs))
        # Only the shape and dtype of the outputs: the loop needs a buffer.
        outputs = jax.eval_shape(at_once, inputs, per_step).outputs
        length = chunk or chunk_length(steps, math.prod(batch_shape), jax.default_backend())
        leaves, tree = jax.tree.flatten(outputs)
        features = tuple(leaf.update(shape=leaf.shape[len(layout) :], sharding=None) for leaf in leaves)
        places = tuple(feature_sharding(leaf, len(layout)) for leaf in leaves)
        plan = ChunkPlan(cell, length, time, axes, tree, features, places, reverse, save, carries=return_carries)
        found = run_chunks(plan, for_reverse_mode(_FORWARD_MODE, inputs), per_step)[0]
        return found

    parts = choose_parts(at_once, inputs, per_step, batch_shape, time, batch)
    if parts is None:
        last, ys, *moments, carries = run(inputs, per_step)
    else:
        prepare = partial(cell.prepare, dtype=dtype, batch_shape=parts.batch_shape(batch_shape))
        part_weights = jax.eval_shape(lambda params, key: prepare(params, key=key), params, sequence_key)
        last, ys, *moments, carries = run_parts(
            run, parts, part_weights, inputs, per_step, own_derivative=method == "chunked"
        )
    rows = CellNorms()  # with given statistics there is nothing to measure
    if stats is None:
        examples = None if in_step or age is None else examples_of_age(age, where, cell.max_steps)
        if reverse and examples is None:
            moments = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), moments)
        rows = lay_rows(cell, flat_moments(combine_sites(*moments)), examples)
    if padding is not None:
        ys = jax.tree.map(partial(take_steps, order=padding[0], axis=time), ys)
    if masked_outputs == "hold" and in_place[0] is not None:
        ys = hold(ys, in_place[0], in_place[1], time, reverse=in_place[2])
    every = lay_carries(carries, start, age, where, padding, time) if return_carries else None
    return Unrolled(ys, last if clock is None else CountedCarry(last, clock), rows, every)


def _first_carries(begin: Any, carry: Carry | None, key: Any, *, resets: bool) -> tuple[Carry, Carry | None]:
    """Returns the carry before the first step, and the one that a reset restores (None if not needed).

    ``begin(key=...)`` makes the initial carry of the cell.
    """
    fresh = begin(key=key) if carry is None or resets else None
    if carry is not None:
        template = jax.eval_shape(lambda key: begin(key=key), jax.eval_shape(jax.random.key, 0))
        carry = fit_carry("unroll", "carry", carry, template)
    return fresh if carry is None else carry, fresh.carry if isinstance(fresh, CountedCarry) else fresh
