"""The order of steps: marks the real ones, and reverses sequences of different lengths."""

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.typing import AnyArray, Array, Bool, Int, Integer, PyTree, Shaped


def real_steps(lengths: Integer[Array, "*B"], steps: int) -> Bool[Array, "T *B"]:
    """Marks the steps within each length with True, time first."""
    return _places(lengths, steps) < lengths[None]


def reversed_steps(lengths: Integer[Array, "*B"], steps: int) -> Int[Array, "T *B"]:
    """Returns the step to take at each position to reverse the real steps; padding stays at the end.

    Lengths must be in [0, T]. The order is its own inverse.
    """
    place = _places(lengths, steps)
    return jnp.where(place < lengths[None], lengths[None] - 1 - place, place)


def take_steps(array: Shaped[Array, "..."], order: Int[Array, "T *B"], axis: int = 0) -> Shaped[Array, "..."]:
    """Reorders the time axis for each example."""
    index = jnp.moveaxis(order, 0, axis)
    index = index.reshape(index.shape + (1,) * (array.ndim - index.ndim))
    return jnp.take_along_axis(array, index, axis=axis)


def flip_steps(array: PyTree, lengths: Integer[AnyArray, "*B"] | None = None, *, time_axis: int = 0) -> PyTree:
    """Reverses sequences, each within its length; padding stays at the end.

    Args:
      array: any array with a time axis, or a tree of them; the first other axes must be those of ``lengths``.
      lengths: number of real steps of each example; None reverses the whole axis. Lengths above T count as T.
      time_axis: the axis of time.

    Returns:
      An array of the same shape, or a tree of them.

    Example:
      >>> import jax.numpy as jnp
      >>> flip_steps(jnp.array([[1, 2, 3], [4, 5, 0]]), jnp.array([3, 2]), time_axis=1).tolist()
      [[3, 2, 1], [5, 4, 0]]
    """

    def flip(array: Array) -> Array:
        (time,) = validate.axes("flip_steps", time_axis, array.ndim)
        if lengths is None:
            return jnp.flip(array, axis=time)
        steps = array.shape[time]
        return take_steps(array, reversed_steps(clip_lengths(jnp.asarray(lengths), steps), steps), time)

    return jax.tree.map(flip, array)


def clip_lengths(lengths: Integer[Array, "*B"], steps: int) -> Int[Array, "*B"]:
    """Converts lengths to 32-bit integers in [0, T]."""
    return jnp.clip(lengths.astype(jnp.int32), 0, steps)


def _places(lengths: Array, steps: int) -> Array:
    return jnp.arange(steps, dtype=jnp.int32).reshape((steps,) + (1,) * lengths.ndim)
