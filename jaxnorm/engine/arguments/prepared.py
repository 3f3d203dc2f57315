"""The arguments of a call in the one form that the loops take: weights, one mask, one carry, rows of statistics."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DType, Int
from jaxnorm.cells.base import Carry, Cell, CountedCarry
from jaxnorm.cells.carries import compute_dtype, in_floating_point
from jaxnorm.cells.hooks import hooks
from jaxnorm.cells.sites import CellNorms, combine_sites
from jaxnorm.engine.arguments.call import Arguments
from jaxnorm.engine.arguments.carry_forms import fit_carry
from jaxnorm.engine.arguments.checks import check_params, check_stats, layout_shape
from jaxnorm.engine.arguments.keys import split_key
from jaxnorm.engine.arguments.lengths import clip_lengths, real_steps, reversed_steps, take_steps
from jaxnorm.engine.arguments.options import Options
from jaxnorm.engine.arguments.sharding import (
    batch_sharding,
    check_time,
    flat_moments,
    gather_beside_batch,
    shard_alike,
    vary_alike,
)
from jaxnorm.engine.arguments.step_index import cuts, step_counts
from jaxnorm.engine.records import LoopInputs, PerStep
from jaxnorm.engine.rows import count_rows, examples_of_age, lay_rows, serving_rows
from jaxnorm.engine.spread_carry import spread_features


class Prepared(NamedTuple):
    """A call in the form of the loops."""

    params: Any
    """The weights of the caller, whole on each device that has examples."""
    inputs: LoopInputs
    steps: PerStep
    reverse: bool
    """Whether the loop goes from the last step to the first."""
    batch_shape: tuple[int, ...]
    start: Carry
    """The carry before the first step; with a count of steps if the cell has one."""
    clock: Int[Array, "*B"] | None
    """The count after the last step, if the cell has one."""
    age: Int[Array, "T *B"] | None
    """The age of each example before each step, if anything needs it."""
    in_step: bool
    """Whether all real examples of a step have the same age."""
    masks: tuple[Array | None, Array | None]
    """``where`` and ``reset``, time first, in the order of the caller."""
    padding: tuple[Int[Array, "T *B"], Int[Array, "*B"]] | None
    """If the real steps were reversed within their lengths: the order that reverses them back, and the lengths."""
    dtype: DType
    """The compute dtype of the cell."""
    sequence_key: Any
    """What drew the masks of the sequence."""


def prepare(caller: str, cell: Cell, options: Options, arguments: Arguments) -> Prepared:
    """Brings the arguments of a call into the form of the loops."""
    params, xs, carry, lengths, where, reset, stats, key = arguments
    reverse, time, every = options.reverse, options.time, options.truncate
    check_params(cell, params, caller)
    if stats is not None:
        check_stats(cell, stats, caller)
    anew = carry is None
    in_step = anew and where is None and reset is None
    axes = hooks(cell).feature_axes
    layout = layout_shape(xs, axes)
    steps, batch_shape = layout[time], layout[:time] + layout[time + 1 :]
    check_time(caller, xs, time)
    batch = batch_sharding(xs, time, axes)
    params = gather_beside_batch(params, batch)
    where, reset = (None if a is None else jnp.moveaxis(a, time, 0) for a in (where, reset))
    lengths, (where, reset) = shard_alike(xs, batch, lengths), shard_alike(xs, batch, (where, reset), lead=1)
    if lengths is not None:
        lengths = clip_lengths(lengths, steps)
        real = real_steps(lengths, steps)
        where = real if where is None else where & real
        reset = None if reset is None else reset & real
    masks, padding = (where, reset), None
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
    carry, initial = shard_alike(xs, batch, _first_carries(caller, begin, carry, carry_key, resets=reset is not None))
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
        cut=None if every is None else cuts(every, steps, where, reset, anew=anew, reverse=reverse),
        key=None if step_key is None else jax.random.split(step_key, steps),
        age=age if hooks(cell).uses_age else None,
    )
    weights = cell.prepare(params, dtype=dtype, batch_shape=batch_shape, key=sequence_key)
    inputs = LoopInputs(weights, carry, initial if reset is not None else None, xs, stats)
    inputs = vary_alike(spread_features(cell, inputs), where)
    return Prepared(
        params,
        inputs,
        per_step,
        reverse,
        batch_shape,
        start,
        clock,
        age,
        in_step,
        masks,
        padding,
        dtype,
        sequence_key,
    )


def weights_of_batch(cell: Cell, call: Prepared, batch_shape: tuple[int, ...]) -> Any:
    """The shapes of the weights for a batch of another size: masks of a sequence have an entry for each example."""
    prepare = partial(cell.prepare, dtype=call.dtype, batch_shape=batch_shape)
    return jax.eval_shape(lambda params, key: prepare(params, key=key), call.params, call.sequence_key)


def moments_in_rows(cell: Cell, call: Prepared, input_moments: Any, step_moments: Any) -> CellNorms:
    """Lays the moments that the loop measured into the rows of the cell; empty with given statistics."""
    if call.inputs.stats is not None:
        return CellNorms()
    moments = (input_moments, step_moments)
    examples = None if call.in_step or call.age is None else examples_of_age(call.age, call.steps.where, cell.max_steps)
    if call.reverse and examples is None:
        moments = jax.tree.map(lambda leaf: jnp.flip(leaf, axis=0), moments)
    return lay_rows(cell, flat_moments(combine_sites(*moments)), examples)


def with_count(last: Carry, call: Prepared) -> Carry:
    """Adds the count after the last step to the last carry, if the cell has one."""
    return last if call.clock is None else CountedCarry(last, call.clock)


def _first_carries(
    caller: str, begin: Any, carry: Carry | None, key: Any, *, resets: bool
) -> tuple[Carry, Carry | None]:
    """Returns the carry before the first step, and the one that a reset restores (None if not needed).

    ``begin(key=...)`` makes the initial carry of the cell.
    """
    fresh = begin(key=key) if carry is None or resets else None
    if carry is not None:
        template = jax.eval_shape(lambda key: begin(key=key), jax.eval_shape(jax.random.key, 0))
        carry = fit_carry(caller, "carry", carry, template)
    return fresh if carry is None else carry, fresh.carry if isinstance(fresh, CountedCarry) else fresh
