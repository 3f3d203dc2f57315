"""The keys of a run: for the initial state, for the steps, and for the whole sequence."""

from typing import Any

import jax

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array


class Keys(NamedTuple):
    """Keys for the noise on the initial state and for masks, each of which may be None."""

    carry: Any
    masks: Any
    """For the masks of steps, and for those of sequences if they have no key of their own."""
    sequence: Any = None
    """For the masks that all steps of a sequence share."""


def split_key(key: Array | Keys | None) -> tuple[Any, Any, Any]:
    """Returns a key for the initial state, one for the steps and one for the whole sequence; None without a key."""
    if key is None:
        return None, None, None
    if isinstance(key, Keys):
        step, sequence = (None, None) if key.masks is None else jax.random.split(key.masks)
        return key.carry, step, sequence if key.sequence is None else key.sequence
    carry, step, sequence = jax.random.split(key, 3)
    return carry, step, sequence


def split_each(key: Array | Keys | None, count: int) -> tuple[Any, ...]:
    """Returns one key for each of several cells; None for each without a key."""
    if key is None:
        return (None,) * count
    if isinstance(key, Keys):
        return tuple(map(Keys, *((None,) * count if each is None else jax.random.split(each, count) for each in key)))
    return tuple(jax.random.split(key, count))
