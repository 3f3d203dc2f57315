"""Runs over a long sequence chunk by chunk."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._sizes import divides, known
from jaxnorm._typing import Array


class Stretch(NamedTuple):
    """Sequences of three kinds. Time is the first axis, except in ``laid`` of a whole sequence."""

    laid: Any
    """One entry per step, in the caller's layout, time axis included; the loop reads and writes it in place."""
    steps: Any
    """One entry per step."""
    first: Any
    """One entry per chunk."""


def chunk_length(steps: int, rows: int, backend: str) -> int:
    """Chooses the number of steps in a chunk, by measurements on CPUs: see the design note on chunks.

    The products of a chunk run at full speed from some 256 rows on, ``rows`` of them per step. Much longer chunks take
    memory and overflow the caches. We prefer a length that divides the number of steps, since the loop body then
    compiles once. On accelerators short chunks gain nothing. Unknown ``rows`` (symbolic) count as many; with unknown
    ``steps`` the whole sequence is one chunk.
    """
    if not known(steps):
        return steps
    least = max(8, min(64, 256 // max(rows, 1) if known(rows) else 0)) if backend == "cpu" else 64
    near = sorted(range(max(least // 2, 1), 2 * least), key=lambda length: abs(length - least))
    return next((length for length in near if steps % length == 0), least)


def _count(steps: int, chunk: int) -> int:
    """Returns how many whole chunks the loop runs over; none if all steps fit into one chunk."""
    if steps == chunk:
        return 0
    if known(steps):
        return 0 if steps < chunk else steps // chunk
    if not divides(chunk, steps):
        raise ValueError(
            f"unroll: chunk={chunk} must divide the number of steps, {steps}, which is not known here. Leave chunk "
            f"out, pass method='scan', or write the number of steps '{chunk}*t' in jax.export.symbolic_shape."
        )
    return steps // chunk


def over_chunks(
    body: Callable[[Any, Stretch], tuple[Any, Stretch]],
    carry: Any,
    sequences: Stretch,
    into: Array,
    chunk: int,
    *,
    axis: int,
    reverse: bool,
) -> tuple[Any, Stretch]:
    """Calls ``body(carry, stretch) -> (carry, results)`` for one chunk of steps after another.

    The remaining steps form a shorter chunk at the end of the time axis. With ``reverse`` the last chunk comes first.

    Args:
      body: the function of a chunk.
      carry: the carry of the first chunk.
      sequences: the sequences to cut into chunks.
      into: a buffer of zeros for the ``laid`` results; the loop writes every step of it once.
      chunk: steps in a chunk.
      axis: the time axis of ``sequences.laid`` and of ``into``.
      reverse: whether to go from the last chunk to the first.
    """
    length = jax.tree.leaves(sequences.laid)[0].shape[axis]
    count = _count(length, chunk)
    whole = count * chunk

    def time_first(start: int, end: int) -> Any:
        return jax.tree.map(lambda a: jnp.moveaxis(lax.slice_in_dim(a, start, end, axis=axis), axis, 0), sequences.laid)

    def split(a: Array) -> Array:
        return a[:whole].reshape(count, chunk, *a.shape[1:])

    def main(carry: Any, into: Array) -> tuple[Any, Stretch]:
        there = lax.stop_gradient(sequences.laid)  # the gradient goes through the time-major copy, see _read

        def one(state: tuple[Any, Array], part: tuple[Array, Stretch]) -> tuple[tuple[Any, Array], Stretch]:
            (carry, into), (start, stretch) = state, part
            laid = jax.tree.map(partial(_read, axis, start), there, stretch.laid)
            carry, results = body(carry, stretch._replace(laid=laid))
            return (carry, _write(axis, start, into, results.laid)), results._replace(laid=())

        starts = jnp.arange(count, dtype=jnp.int32) * chunk
        laid, steps = jax.tree.map(split, (time_first(0, whole), sequences.steps))
        parts = Stretch(laid, steps, jax.tree.map(lambda a: a[:count], sequences.first))
        (carry, into), results = lax.scan(one, (carry, into), (starts, parts), reverse=reverse)
        return carry, Stretch(
            into, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), results.steps), results.first
        )

    def rest(carry: Any, into: Array) -> tuple[Any, Stretch]:
        steps = jax.tree.map(lambda a: a[whole:], sequences.steps)
        first = jax.tree.map(lambda a: a[-1], sequences.first)
        carry, results = body(carry, Stretch(time_first(whole, length), steps, first))
        into = _write(axis, whole, into, results.laid)
        return carry, Stretch(into, results.steps, jax.tree.map(lambda a: a[None], results.first))

    if count == 0:
        return rest(carry, into)
    if whole == length:
        return main(carry, into)
    if reverse:
        carry, late = rest(carry, into)
        carry, early = main(carry, late.laid)
        into = early.laid
    else:
        carry, early = main(carry, into)
        carry, late = rest(carry, early.laid)
        into = late.laid
    steps, first = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early[1:], late[1:])
    return carry, Stretch(into, steps, first)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _read(axis: int, start: Array, whole: Array, part: Array) -> Array:
    """Reads the chunk at ``start`` from the whole sequence in place, and returns it with time first.

    ``part`` is the same chunk, cut from a time-major copy, and only the derivative uses it: the transpose of a read
    from the whole would add an array as large as the whole for every chunk. Without a derivative the compiler drops
    ``part``.
    """
    if axis == 0:
        return part
    return jnp.moveaxis(lax.dynamic_slice_in_dim(whole, start, len(part), axis), axis, 0)


@_read.defjvp
def _read_jvp(axis: int, primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Array]) -> tuple[Array, Array]:
    return _read(axis, *primals), tangents[2]  # the tangent of the time-major copy, not that of the whole


def _write(axis: int, start: Array | int, whole: Array, part: Array) -> Array:
    """Writes a time-major chunk into the whole sequence."""
    return lax.dynamic_update_slice_in_dim(whole, jnp.moveaxis(part, 0, axis), start, axis)
