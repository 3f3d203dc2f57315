"""Runs a cell over sequences: the public call, with masks, lengths, resets, directions and layouts."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base import foreign_keywords
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.reverse_mode import for_reverse_mode
from jaxnorm._base.typing import AnyArray, Array, Bool, Integer, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.base import Cell
from jaxnorm.engine.arguments.call import Arguments, check_call
from jaxnorm.engine.arguments.keys import Keys
from jaxnorm.engine.arguments.lengths import take_steps
from jaxnorm.engine.arguments.options import Options, check_divides, check_options
from jaxnorm.engine.arguments.prepared import moments_in_rows, prepare, weights_of_batch, with_count
from jaxnorm.engine.arguments.stripped import without_initializers
from jaxnorm.engine.loops.at_once import run_at_once
from jaxnorm.engine.loops.chunked import run_chunks
from jaxnorm.engine.loops.plan import plan_chunks
from jaxnorm.engine.masked_outputs import hold
from jaxnorm.engine.parts import LoopCall, choose_parts, run_parts
from jaxnorm.engine.records import LoopOutputs
from jaxnorm.engine.returned_carries import lay_carries


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
    lengths: Integer[AnyArray, "*B"] | None = None,
    where: Bool[AnyArray, "..."] | None = None,
    reset: Bool[AnyArray, "..."] | None = None,
    stats: PyTree | None = None,
    key: PRNGKeyArray | Shaped[Array, "2"] | Keys | None = None,
    reverse: bool = False,
    time_axis: int = 0,
    method: str = "chunked",
    chunk: int | None = None,
    save: str | None = None,
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
        repeated, and forward mode over it as in ``jax.hessian``): it saves little (see ``save``), and computes the
        gradients of the weights once per chunk instead of once per step. ``"scan"`` is one loop, differentiated by JAX,
        for forward mode (``jax.jvp``, ``jax.linearize``, ``jax.jacfwd``) and other transformations. ``"associative"``
        processes all steps at once, in about log T rounds, for cells that are linear in the carry
        (:class:`jaxnorm.zoo.MinGRU`, any :class:`LinearCell`).
      chunk: number of steps in a chunk of the chunked method; None chooses it.
      save: what the chunked method saves for the backward pass: the carry before each step and the matrix products of
        inputs and state (``"products"``), in the compute dtype of the cell, to which the forward pass then rounds them,
        too; the carry alone (``"carries"``), which computes the products again; or only the carry before each chunk
        (``"chunks"``), which recomputes the other carries, too, and takes least memory with long chunks. None saves
        products on CPUs, where they take no more than a plain loop would save and are not rounded, and carries
        elsewhere.
      truncate: stops the gradient from passing to the previous step at every ``truncate``-th step, counted in
        processing order from the first (truncated back-propagation). A carry that you pass in then gets no gradient; a
        learned initial carry gets the gradient of the steps up to the first cut after it.
      masked_outputs: the outputs of masked steps: zeros (``"zero"``), or the output of the last real step before them
        in processing order (``"hold"``), and zeros before the first real step of the call or after a reset. The
        gradient of a repeated output goes to the step that made it.
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
    arguments, time = check_call(
        "unroll", cell, Arguments(params, xs, carry, lengths, where, reset, stats, key), time_axis
    )
    words: Any = (save, masked_outputs)  # check_options sees to them
    options = Options(reverse, time, method, chunk, words[0], truncate, words[1], return_carries)
    check_options("unroll", cell, options)
    check_divides("unroll", "chunk", chunk, arguments.xs.shape[time])
    # Initializers made in place never compare equal; without them equal cells share one compilation.
    result: Unrolled = _unroll(without_initializers(cell), options, arguments)
    return result


_FORWARD_MODE = (
    "unroll: method='chunked' has no forward-mode derivative (jax.jvp, jax.linearize, jax.jacfwd). Pass "
    "method='scan', in Flax modules engine={'method': 'scan'}; values and gradients differ by rounding alone, which "
    "long sequences may amplify."
)


@partial(jax.jit, static_argnums=(0, 1))
def _unroll(cell: Cell, options: Options, arguments: Arguments) -> Unrolled:
    """Brings the arguments into the form of the loops (one time-major mask, one carry), and calls one."""
    _, time, method, _, _, _, masked_outputs, return_carries = options
    call = prepare("unroll", cell, options, arguments)
    whole, reverse = LoopCall(call.inputs, call.steps), call.reverse

    def at_once(given: LoopCall) -> LoopOutputs:
        """Runs all steps as a single chunk, time first."""
        inputs = given.inputs._replace(xs=jnp.moveaxis(given.inputs.xs, time, 0))
        return run_at_once(cell, inputs, given.steps, method=method, reverse=reverse, carries=return_carries)

    def run(given: LoopCall) -> LoopOutputs:
        """Runs all steps by the method; outputs are laid out like the inputs."""
        if method != "chunked":
            found = at_once(given)
            return found._replace(outputs=jax.tree.map(lambda y: jnp.moveaxis(y, 0, time), found.outputs))
        # Only the shape and dtype of the outputs: the loop needs a buffer.
        outputs = jax.eval_shape(at_once, given).outputs
        plan = plan_chunks(cell, options, call, outputs)
        return run_chunks(plan, for_reverse_mode(_FORWARD_MODE, given.inputs), given.steps)[0]

    weights_of = partial(weights_of_batch, cell, call)
    parts = choose_parts(at_once, whole, weights_of, call.batch_shape, time)
    if parts is None:
        last, ys, *moments, carries = run(whole)
    else:
        last, ys, *moments, carries = run_parts(run, parts, whole, own_derivative=method == "chunked")
    rows = moments_in_rows(cell, call, *moments)
    if call.padding is not None:
        ys = jax.tree.map(partial(take_steps, order=call.padding[0], axis=time), ys)
    if masked_outputs == "hold" and call.masks[0] is not None:
        ys = hold(ys, call.masks[0], call.masks[1], time, reverse=options.reverse)
    every = lay_carries(carries, call.start, call.age, call.steps.where, call.padding, time) if return_carries else None
    return Unrolled(ys, with_count(last, call), rows, every)
