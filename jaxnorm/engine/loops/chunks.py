"""Runs over a long sequence chunk by chunk."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.devices import is_gpu
from jaxnorm._base.sizes import divides, known
from jaxnorm._base.typing import Array, PyTree
from jaxnorm.cells.base import Carry
from jaxnorm.engine.records import Chunk, ChunkPlan

FAST_MEMORY = 2**24
"""The bytes of the products of one chunk that should fit: some 6 times as many are read and written around them."""

GPU_MEMORY = 2**27
"""The same on GPUs, where starting the fifty kernels of a chunk costs more than reading its arrays from slow memory."""

MANY_ROWS = 256
"""The number of rows from which on matrix products run at full speed; a batch of unknown size counts as so many."""


def chunk_length(steps: int, rows: int, features: int, platform: str) -> int:
    """Chooses the number of steps in a chunk: see the design notes on chunks.

    On CPUs, by measurement, the products of a chunk run at full speed from some 256 rows on, ``rows`` of them per step.
    Much longer chunks overflow the caches. On accelerators long chunks mean fewer kernels. Everywhere the products
    of a chunk have to fit into fast memory, so programs that are compiled on another machine than the one they
    run on fit, too; only programs that are known to be for GPUs have more room. We prefer a length that divides the
    number of steps, since the loop body then compiles once.

    Args:
      steps: the number of steps. If it is unknown (symbolic), the whole sequence is one chunk, unless a suitable length
        certainly divides it.
      rows: the number of examples on one device.
      features: the number of features of a product, G*H.
      platform: the kind of the devices.
    """
    rows = max(rows, 1) if known(rows) else MANY_ROWS
    room = GPU_MEMORY if is_gpu(platform) else FAST_MEMORY
    most = max(room // (4 * rows * features), 1)
    least = min(max(8, min(64, MANY_ROWS // rows)) if platform == "cpu" else 64, most)
    near = sorted(range(max(least // 2, 1), min(2 * least, most + 1)), key=lambda length: abs(length - least))
    return next((length for length in near if divides(length, steps)), least if known(steps) else steps)


def count_features(carry: Carry, batch_axes: int) -> int:
    """Counts the features of the widest entry of a carry."""
    return max((math.prod(leaf.shape[batch_axes:]) for leaf in jax.tree.leaves(carry)), default=1) or 1


def _count(steps: int, length: int) -> int:
    """Returns how many whole chunks the loop runs over; none if all steps fit into one chunk."""
    if steps == length:
        return 0
    if known(steps):
        return 0 if steps < length else steps // length
    return steps // length


def scan_chunks(
    plan: ChunkPlan,
    function: Callable[[Carry, Chunk], tuple[Carry, Chunk]],
    carry: Carry,
    sequences: Chunk,
    out: PyTree,
    *,
    reverse: bool,
) -> tuple[Carry, Chunk]:
    """Calls ``function(carry, chunk) -> (carry, results)`` for one chunk of steps after another.

    The remaining steps form a shorter chunk at the end of the time axis. With ``reverse`` the last chunk comes first.

    Args:
      plan: the length of a chunk, the time axis of ``sequences.in_layout`` and of ``out``, and whether to run chunks
        again.
      function: runs one chunk.
      carry: the carry of the first chunk.
      sequences: the sequences to cut into chunks.
      out: buffers of zeros for the results in the layout; the loop writes every step of them once.
      reverse: whether to go from the last chunk to the first.
    """
    length, axis, again, in_layout = plan.length, plan.axis, plan.again, sequences.in_layout
    recomputed = partial(jax.checkpoint, prevent_cse=False) if again else lambda body: body
    steps = jax.tree.leaves(in_layout)[0].shape[axis]
    count = _count(steps, length)
    whole = count * length

    def time_first(start: int, end: int) -> Any:
        return jax.tree.map(lambda a: jnp.moveaxis(lax.slice_in_dim(a, start, end, axis=axis), axis, 0), in_layout)

    def remainder(carry: Carry, out: PyTree) -> tuple[Carry, PyTree, Chunk]:
        time_major = jax.tree.map(lambda a: a[whole:], sequences.time_major)
        per_chunk = jax.tree.map(lambda a: a[-1], sequences.per_chunk)
        carry, results = recomputed(function)(carry, Chunk(time_first(whole, steps), time_major, per_chunk))
        out = jax.tree.map(partial(_write, axis, whole), out, results.in_layout)
        return carry, out, Chunk((), results.time_major, jax.tree.map(lambda a: a[None], results.per_chunk))

    if count == 0:
        carry, out, results = remainder(carry, out)
        return carry, results._replace(in_layout=out)
    late = None
    if reverse and whole != steps:
        carry, out, late = remainder(carry, out)

    # No gradient through the whole sequences: it goes through the time-major copy in ``chunk``, see _read. But a
    # derivative that runs a chunk again loses the rule of _read, and a second derivative must find the whole.
    source = in_layout if again else lax.stop_gradient(in_layout)

    def one(state: tuple[Carry, PyTree], part: tuple[Array, Chunk]) -> tuple[tuple[Carry, PyTree], Chunk]:
        (carry, out), (start, chunk) = state, part
        in_chunk = jax.tree.map(partial(_read, axis, again, start), source, chunk.in_layout)
        carry, results = function(carry, chunk._replace(in_layout=in_chunk))
        out = jax.tree.map(partial(_write, axis, start), out, results.in_layout)
        return (carry, out), results._replace(in_layout=())

    def cut(a: Array) -> Array:
        return a[:whole].reshape(count, length, *a.shape[1:])

    starts = jnp.arange(count, dtype=jnp.int32) * length
    copy, time_major = jax.tree.map(cut, (time_first(0, whole), sequences.time_major))
    chunks = Chunk(copy, time_major, jax.tree.map(lambda a: a[:count], sequences.per_chunk))
    (carry, out), results = lax.scan(recomputed(one), (carry, out), (starts, chunks), reverse=reverse)
    joined = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), results.time_major)
    results = Chunk((), joined, results.per_chunk)

    if not reverse and whole != steps:
        carry, out, late = remainder(carry, out)
    if late is not None:
        results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, late)
    return carry, results._replace(in_layout=out)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _read(axis: int, again: bool, start: Array, whole: Array, part: Array) -> Array:
    """Reads the chunk at ``start`` from the whole sequence in place, and returns it with time first.

    ``part`` is the same chunk, cut from a time-major copy, and only the derivative uses it: the transpose of a read
    from the whole would add an array as large as the whole for every chunk. Without a derivative the compiler drops
    ``part``, and where the derivative reads a chunk ``again``, it keeps the whole in place of a copy of each part.
    """
    if axis == 0 and not again:
        return part
    return jnp.moveaxis(lax.dynamic_slice_in_dim(whole, start, len(part), axis), axis, 0)


@_read.defjvp
def _read_jvp(
    axis: int, again: bool, primals: tuple[Array, Array, Array], tangents: tuple[Any, Any, Array]
) -> tuple[Array, Array]:
    return _read(axis, again, *primals), tangents[2]  # the tangent of the time-major copy, not that of the whole


def _write(axis: int, start: Array | int, whole: Array, part: Array) -> Array:
    """Writes a time-major chunk into the whole sequence."""
    return lax.dynamic_update_slice_in_dim(whole, jnp.moveaxis(part, 0, axis), start, axis)
