"""Stretches of steps: a long sequence is gone through a chunk at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Stretch(NamedTuple):
    """Sequences of two kinds: with an entry for each step, and with one for each chunk; time comes first."""

    steps: Any
    first: Any


def chunk_length(steps: int, rows: int, backend: str) -> int:
    """How many steps to a chunk where nobody says: measured on CPUs, see the design note on the schedule.

    The products of a chunk should have some 256 rows, ``rows`` to a step, to run at full speed; much more, and what
    belongs to a chunk no longer fits into the caches, and takes memory. A length that divides the number of steps is
    preferred: the loop body is compiled once then. On accelerators there is nothing to be gained from short chunks.
    """
    least = max(8, min(64, 256 // max(rows, 1))) if backend == "cpu" else 64
    near = sorted(range(max(least // 2, 1), 2 * least), key=lambda length: abs(length - least))
    return next((length for length in near if steps % length == 0), least)


def over_chunks(
    body: Callable[[Any, Stretch], tuple[Any, Stretch]], carry: Any, sequences: Stretch, chunk: int, *, reverse: bool
) -> tuple[Any, Stretch]:
    """Calls ``body(carry, stretch) -> (carry, results)`` for chunks of steps, one after the other.

    Steps that fill no chunk form a shorter one at the end of the time axis. With ``reverse`` the last comes first.
    """
    length = jax.tree.leaves(sequences.steps)[0].shape[0]
    count = 0 if length <= chunk else length // chunk  # a single chunk needs no loop
    whole = count * chunk

    def main(carry: Any) -> tuple[Any, Stretch]:
        parts = Stretch(
            jax.tree.map(lambda a: a[:whole].reshape(count, chunk, *a.shape[1:]), sequences.steps),
            jax.tree.map(lambda a: a[:count], sequences.first),
        )
        carry, results = lax.scan(body, carry, parts, reverse=reverse)
        return carry, results._replace(steps=jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), results.steps))

    def rest(carry: Any) -> tuple[Any, Stretch]:
        part = Stretch(
            jax.tree.map(lambda a: a[whole:], sequences.steps), jax.tree.map(lambda a: a[-1], sequences.first)
        )
        carry, results = body(carry, part)
        return carry, results._replace(first=jax.tree.map(lambda a: a[None], results.first))

    if count == 0:
        return rest(carry)
    if whole == length:
        return main(carry)
    if reverse:
        carry, late = rest(carry)
        carry, early = main(carry)
    else:
        carry, early = main(carry)
        carry, late = rest(carry)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
