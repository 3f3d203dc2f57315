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


def chunk_length(steps: int) -> int:
    """A length between 8 and 16 that divides the number of steps, if there is one: the body is compiled once then."""
    return next((length for length in range(16, 7, -1) if steps % length == 0), 16)


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
