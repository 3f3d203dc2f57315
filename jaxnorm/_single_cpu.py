"""Forms of a computation for the CPU that cannot be spread over devices."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import lax

from jaxnorm._typing import Array

T = TypeVar("T")


def on_single_cpu(alone: Callable[..., T], otherwise: Callable[..., T], *args: Array) -> T:
    """``alone(*args)`` in programs for the one CPU device that there is, ``otherwise(*args)`` in all others.

    Merging the axes of time and batch is faster on a CPU. Where the batch is spread over devices the compiler cannot
    divide what is merged among them: it would gather the batch and give each of them all of the work.
    """
    if count_cpus() != 1 or any(any(jax.typeof(arg).sharding.spec) for arg in args):
        return otherwise(*args)
    result: T = lax.platform_dependent(*args, cpu=alone, default=otherwise)
    return result


def count_cpus() -> int:
    """The number of CPU devices, of all processes."""
    try:
        return jax.device_count("cpu")
    except RuntimeError:  # the process has been told to use no CPU
        return 0
