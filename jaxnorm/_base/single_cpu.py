"""Chooses CPU implementations that do not support sharding over devices."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import lax

from jaxnorm._base.typing import Array

T = TypeVar("T")


def on_single_cpu(alone: Callable[..., T], otherwise: Callable[..., T], *args: Array) -> T:
    """Computes ``alone(*args)`` in programs for a single CPU device, and ``otherwise(*args)`` in all other programs.

    On a CPU it is faster to merge the axes of time and batch. But the compiler cannot shard a merged axis: if the batch
    is sharded over devices, it would gather the batch and give every device all of the work.
    """
    # A nonempty sharding spec means that a mesh with explicit axes shards the argument.
    if count_cpus() != 1 or any(any(jax.typeof(arg).sharding.spec) for arg in args):
        return otherwise(*args)
    result: T = lax.platform_dependent(*args, cpu=alone, default=otherwise)
    return result


def count_cpus() -> int:
    """The number of CPU devices in all processes."""
    try:
        return jax.device_count("cpu")
    except RuntimeError:  # the process is configured without a CPU backend
        return 0
