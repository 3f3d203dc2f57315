"""Maxima over array axes and named axes, with derivatives that work under every transformation."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array
from jaxnorm.norms.core.moments import masked, sum_over
from jaxnorm.norms.core.named_axes import AxisGroups, NamedAxes, maximum_across


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def maximum_over(data: Array, where: Array | None, axes: tuple[int, ...], axis_name: NamedAxes | None) -> Array:
    """Returns the largest element along ``axes`` (kept with size 1) and over named axes; zero if there is none.

    The derivative is split equally among all elements that attain the maximum, on all devices.
    """
    lowest = jnp.asarray(-jnp.inf, data.dtype)
    top = jnp.max(data if where is None else jnp.where(where, data, lowest), axis=axes, keepdims=True, initial=-jnp.inf)
    top = maximum_across(top, axis_name)
    return jnp.where(top == lowest, jnp.zeros((), data.dtype), top)


@maximum_over.defjvp
def _maximum_over_jvp(
    axes: tuple[int, ...], axis_name: NamedAxes | None, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Array, Array]:
    data, where = primals
    top = maximum_over(data, where, axes, axis_name)
    # The compiler may recompute the data here, with other roundings than in the forward pass. So even the largest
    # element may be slightly below the maximum, and we accept a few units of rounding.
    few = 8 * jnp.finfo(data.dtype).eps  # type: ignore[no-untyped-call]
    attained = data >= top - jnp.asarray(few, data.dtype) * jnp.abs(top)
    if where is not None:
        attained = attained & where
    number = sum_over(attained.astype(data.dtype), axes, axis_name)
    change = sum_over(masked(tangents[0], attained), axes, axis_name)
    return top, change / jnp.maximum(number, jnp.ones((), data.dtype))


def largest_sum_over(data: Array, k: int, axes: tuple[int, ...], axis_name: NamedAxes | None) -> tuple[Array, Array]:
    """Returns the sum of the k largest elements along ``axes`` and over named axes, and how many it added.

    Elements must not be negative, and masked elements must be zero. The axes are kept with size 1.
    """
    kept = tuple(a for a in range(data.ndim) if a not in axes)
    rows = data.transpose(*kept, *axes).reshape(*(data.shape[a] for a in kept), -1)
    top, _ = lax.top_k(rows, min(k, rows.shape[-1]))
    number = top.shape[-1]
    if isinstance(axis_name, AxisGroups):
        gathered, members = axis_name.gather(top)
        top = _largest(gathered, k)
        added = jnp.minimum(members * number, k).astype(data.dtype)
    else:
        for name in () if axis_name is None else (axis_name,) if isinstance(axis_name, str) else axis_name:
            top = _largest(lax.all_gather(top, name), k)
        added = jnp.asarray(top.shape[-1], data.dtype)
    shape = tuple(1 if a in axes else size for a, size in enumerate(data.shape))
    return jnp.sum(top, axis=-1).reshape(shape), added


def _largest(gathered: Array, k: int) -> Array:
    """The k largest elements of all members: they are among the k largest of each."""
    together = jnp.moveaxis(gathered, 0, -2).reshape(*gathered.shape[1:-1], -1)
    top, _ = lax.top_k(together, min(k, together.shape[-1]))
    return top
