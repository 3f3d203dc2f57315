"""Runs a cell over sequences and keeps only sums over time: losses inside the loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.reverse_mode import for_reverse_mode
from jaxnorm._base.typing import AnyArray, Array, Bool, Integer, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Cell
from jaxnorm.cells.hooks import hooks
from jaxnorm.engine.arguments.call import Arguments, check_call
from jaxnorm.engine.arguments.checks import check_arrays, layout_shape
from jaxnorm.engine.arguments.keys import Keys
from jaxnorm.engine.arguments.lengths import take_steps
from jaxnorm.engine.arguments.options import Options, check_divides, check_options
from jaxnorm.engine.arguments.prepared import moments_in_rows, prepare, weights_of_batch, with_count
from jaxnorm.engine.arguments.program_keys import ProgramKey, program_key
from jaxnorm.engine.arguments.readout import Readout, check_function, check_targets, largest
from jaxnorm.engine.arguments.sharding import shard_layout, vary_alike
from jaxnorm.engine.arguments.stripped import without_initializers
from jaxnorm.engine.loops.at_once import run_at_once
from jaxnorm.engine.loops.blocks import BlockPlan, block_length, sum_blocks
from jaxnorm.engine.loops.chunked import run_chunks
from jaxnorm.engine.loops.plan import plan_chunks
from jaxnorm.engine.parts import LoopCall, choose_parts, run_parts
from jaxnorm.engine.records import ChunkPlan, LoopInputs, LoopOutputs, PerStep

READ_BYTES = 16 * 2**20
"""The largest array that the function should make of the steps that it reads at a time."""


class Summed(NamedTuple):
    r"""The result of :func:`unroll_sum`.

    Attributes:
      sums: what ``function`` returns, summed over time, (\*B, ...).
      carry: the carry after the last step, as :class:`Unrolled` has it.
      moments: the moments that the normalizers measured, as :class:`Unrolled` has them.
    """

    sums: PyTree
    carry: PyTree
    moments: PyTree


@answers_keywords(foreign_keywords.UNROLL_SUM)
def unroll_sum(
    cell: Cell,
    params: PyTree,
    xs: Shaped[Array, "..."],
    function: Callable[[Any, Any, Any], Any],
    head: PyTree,
    targets: PyTree = None,
    *,
    carry: PyTree | None = None,
    lengths: Integer[AnyArray, "*B"] | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    reset: Bool[AnyArray, "..."] | None = None,
    stats: PyTree | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | Keys | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    method: str = "chunked",
    chunk: int | None = None,
    block: int | None = None,
    save: str | None = None,
    truncate: int | None = None,
) -> Summed:
    r"""Runs a cell over sequences and sums a function of its outputs over time, such as the loss of a language model.

    .. math::
       \text{carry}_t, y_t = \text{cell}(\text{carry}_{t-1}, x_t), \qquad
       \text{sums} = \sum_{t=0}^{T-1} \text{function}(\text{head}, y_t, \text{target}_t)

    Values and gradients are those of :func:`unroll`, followed by the function at each step and a sum. But the outputs
    of all steps, and the results of the function, never exist at once, neither in the forward nor in the backward pass;
    a plain program stores logits (T, \*B, V). A gradient needs memory for the square root of T steps.

    Args:
      cell: a spec such as ``ln_lstm(128)``.
      params: its weights, from ``cell.init``.
      xs: inputs, as in :func:`unroll`.
      function: ``(head, y, target)`` that returns an array (\*B, ...) for one step, or a tree of them, from the outputs
        y (\*B, H) and the targets (\*B, ...) of this step. It treats each example separately. Give a function that you
        define once: outside of ``jit`` a lambda made in place compiles again at each call, and so does a method of an
        object that may change, such as a Flax module.
      head: what the function computes with besides, such as the kernel of a readout: any tree of arrays, or None. Its
        gradient adds up in at least float32.
      targets: arrays laid out like ``xs`` without its features, each with any further axes; a tree of them, or None.
        Floating-point ones have gradients, too.
      carry: the state before the first step, in any form that :func:`unroll` takes.
      lengths: number of real steps of each example (\*B). Later steps are masked.
      where: True on real steps, laid out like ``xs`` without the features. A masked step adds nothing to the sums, and
        its inputs and targets may hold anything, even NaN.
      reset: True at t replaces the carry by the initial one before step t.
      stats: running statistics to normalize with (inference); None measures each batch (training).
      key: randomness for cells that need it.
      reverse: runs from the last step to the first.
      time_axis: the axis of time in ``xs``, ``targets``, ``where`` and ``reset``.
      method: the loop over the steps of a block, as in :func:`unroll`.
      chunk: number of steps in a chunk of the chunked method, and of those that the function reads at once; None
        chooses both, the second by the largest array that the function makes.
      block: number of steps in a block, which the backward pass runs again. The forward pass saves a carry for each
        block, and the backward pass holds carries and outputs of one block. None chooses about the square root of T. A
        single block, ``block=T``, reruns only the function, and keeps carries and outputs of all steps.
      save: what the chunked method saves within the block at work, as in :func:`unroll`.
      truncate: stops the gradient at every ``truncate``-th step, as in :func:`unroll`.

    Returns:
      Summed(sums, carry, moments). Sums have at least float32, or the dtype of the function if it is wider; those of
      integers and booleans are integers of at least 32 bits.

    Raises:
      TypeError: as for :func:`unroll`; ``function`` is no function of three arguments, or returns no arrays.
      ValueError: as for :func:`unroll`; targets do not begin with the axes of steps and examples, or what ``function``
        returns with those of examples.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.ln_lstm(8)
      >>> params = cell.init(jax.random.key(0), in_features=3)
      >>> xs, words = jnp.ones((6, 2, 3)), jnp.zeros((6, 2), int)  # T, B, I and T, B
      >>> def cross_entropy(head, y, word):
      ...     logits = jax.nn.log_softmax(y @ head["kernel"] + head["bias"])
      ...     return -jnp.take_along_axis(logits, word[..., None], axis=-1)[..., 0]
      >>> def loss(params, head):
      ...     out = jaxnorm.unroll_sum(cell, params, xs, cross_entropy, head, words, lengths=jnp.array([6, 4]))
      ...     return out.sums.sum() / 10
      >>> head = {"kernel": jnp.zeros((8, 100)), "bias": jnp.zeros(100)}
      >>> value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(params, head)
      >>> round(float(value), 3), gradients[1]["kernel"].shape  # log(100)
      (4.605, (8, 100))

    Notes:
      To save memory, a gradient computes the outputs once more than that of ``unroll``. A function may use arrays from
      outside, traced ones too, and they get gradients; those add up in their own dtype, in bfloat16 with its error. A
      concrete array that it uses becomes a constant of the compiled program.

      At masked steps the function sees numbers between zero and one in place of outputs and targets, so that no
      derivative there is infinite; integers and booleans are zero.

      If the number of steps is unknown (``jax.export``), all steps are one block, unless ``block`` divides it: that of
      ``4*t`` steps may be 4. ``chunk`` has to divide a block of unknown length, too.
    """
    caller = "unroll_sum"
    arguments, time = check_call(
        caller, cell, Arguments(params, xs, carry, lengths, where, reset, stats, key), time_axis
    )
    check_function(caller, function)
    check_arrays(caller, "head", head)
    targets = check_targets(caller, targets, layout_shape(arguments.xs, hooks(cell).feature_axes))
    words: Any = save  # check_options sees to it
    options = Options(reverse, time, method, chunk, words, truncate, "zero", False)
    check_options(caller, cell, options)
    if block is not None:
        validate.positive_int(caller, "block", block)
    check_divides(caller, "block", block, arguments.xs.shape[time])
    check_divides(caller, "chunk", chunk, arguments.xs.shape[time] if block is None else block)
    head = jax.tree.map(jnp.asarray, head)
    spec, made_for = _Spec(without_initializers(cell), options, block), program_key(function)
    if made_for is None:  # a program of its own, which is gone after the call
        result: Summed = jax.jit(partial(_sum, spec, function))(arguments, head, targets)
        return result
    result = _unroll_sum(spec, made_for, arguments, head, targets)
    return result


class _Spec(NamedTuple):
    """What a program is made for."""

    cell: Cell
    options: Options
    block: int | None


_FORWARD_MODE = (
    "unroll_sum: method='chunked' has no forward-mode derivative (jax.jvp, jax.linearize, jax.jacfwd). Pass "
    "method='scan'."
)


@partial(jax.jit, static_argnums=(0, 1))
def _unroll_sum(spec: _Spec, key: ProgramKey, arguments: Arguments, head: PyTree, targets: PyTree) -> Summed:
    return _sum(spec, key.function, arguments, head, targets)


def _sum(spec: _Spec, function: Any, arguments: Arguments, head: PyTree, targets: PyTree) -> Summed:
    """Brings the arguments into the form of the loops, and runs over blocks."""
    cell, options, block = spec
    call = prepare("unroll_sum", cell, options, arguments)
    axes, time, where = hooks(cell).feature_axes, options.time, call.steps.where
    targets = shard_layout(call.inputs.xs, axes, targets)
    if call.padding is not None:
        targets = jax.tree.map(partial(take_steps, order=call.padding[0], axis=time), targets)
    inputs, head, targets = vary_alike((call.inputs, head, targets), where)

    whole = LoopCall(inputs, call.steps, head, targets)
    loop = partial(run_at_once, cell, method=options.method, reverse=call.reverse)

    def reader(given: LoopCall) -> Readout:
        layout = layout_shape(given.inputs.xs, axes)
        return Readout("unroll_sum", function, layout[:time] + layout[time + 1 :])

    def at_once(given: LoopCall) -> LoopOutputs:
        """Runs all steps as a single block; sums stand in place of outputs."""
        first = _time_first(time, given)
        out = loop(first.inputs, first.steps)
        return out._replace(outputs=reader(given)(first.head, out.outputs, first.targets, first.steps.where))

    def run(given: LoopCall) -> LoopOutputs:
        """Runs block by block."""
        read, length = reader(given), given.inputs.xs.shape[time]
        # Only shapes and dtypes: the loops need buffers, and sums a start.
        outputs, reading = jax.eval_shape(lambda given: _trace(loop, read, _time_first(time, given)), given)
        zeros = map(ad.instantiate_zeros, map(ad.Zero, reading.program.out_avals))
        plan = plan_chunks(cell, options, call, outputs)
        of_block: Any = loop
        if options.method == "chunked":
            given = given._replace(inputs=for_reverse_mode(_FORWARD_MODE, given.inputs))
            of_block = partial(_run_block, plan._replace(axis=0))
        at_a_time = options.chunk or read_length(plan.length, largest(reading.program.jaxpr), length)
        blocks = BlockPlan(plan, block or block_length(length, plan.length), of_block, read, at_a_time)
        out, sums = sum_blocks(blocks, *given, jax.tree.unflatten(reading.tree, list(zeros)))
        return out._replace(outputs=sums)

    weights_of = partial(weights_of_batch, cell, call)
    parts = choose_parts(at_once, whole, weights_of, call.batch_shape, time, sums=True)
    # JAX differentiates the loop over blocks, whatever runs in a block.
    out = run(whole) if parts is None else run_parts(run, parts, whole, own_derivative=False)
    moments = moments_in_rows(cell, call, out.input_moments, out.step_moments)
    return Summed(out.outputs, with_count(out.last, call), moments)


@jax.tree_util.register_static
class _Reading:
    """The program of the function, and the structure of what it returns."""

    def __init__(self, program: Any, shapes: Any) -> None:
        self.program, self.tree = program, jax.tree.structure(shapes)


def _time_first(axis: int, call: LoopCall) -> LoopCall:
    xs, targets = jax.tree.map(lambda array: jnp.moveaxis(array, axis, 0), (call.inputs.xs, call.targets))
    return call._replace(inputs=call.inputs._replace(xs=xs), targets=targets)


def _trace(loop: Any, read: Readout, call: LoopCall) -> tuple[PyTree, _Reading]:
    """The outputs of the cell, and how the function reads them."""
    outputs = loop(call.inputs, call.steps).outputs
    program = jax.make_jaxpr(read, return_shape=True)(call.head, outputs, call.targets, call.steps.where)
    return outputs, _Reading(*program)


def _run_block(plan: ChunkPlan, inputs: LoopInputs, steps: PerStep) -> LoopOutputs:
    return run_chunks(plan, inputs, steps)[0]


def read_length(chunk: int, largest: int | None, steps: int) -> int:
    """Chooses how many steps the function reads at a time: a chunk, or fewer if it makes large arrays of them.

    ``largest`` is the size of the largest array, in bytes, that it makes of all ``steps``.
    """
    return chunk if largest is None else max(1, min(chunk, READ_BYTES * steps // max(largest, 1)))
