"""Rows whose elements are spread over devices: each measures its own, and one collective merges what they found."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array
from jaxnorm.norms.core.moments import average, rounded_average, variance
from jaxnorm.norms.core.reduction import Reduction


class RowMoments(NamedTuple):
    """What :func:`measure_spread` finds of each row."""

    mean: Array
    """Rounded."""
    rest: Array
    """What rounding took from the mean."""
    mean_square: Array
    """The variance, times the square of ``power``."""
    about: Array
    """The mean square about the rounded means that the devices found, scaled like it: a bound of its own error."""


def is_spread(reduction: Reduction, x: Array, where: Array | None) -> bool:
    """Whether explicit axes of a mesh spread the last axis of rows, which are masked whole or not at all."""
    spec = jax.typeof(x).sharding.spec
    if not any(spec) or not reduction.is_row(x.ndim):
        return False
    whole = where is None or all(where.shape[axis] == 1 for axis in reduction.axes)
    return whole and spec[-1] is not None and not any(spec[axis] for axis in reduction.axes[:-1])


def measure_spread(reduction: Reduction, x: Array, power: Array) -> RowMoments:
    """Measures rows that :func:`is_spread` accepts.

    Sums over a spread axis would take two collectives, one for the mean and one for the squares about it.
    """
    sharding, ndim = jax.typeof(x).sharding, x.ndim
    *before, names = sharding.spec
    devices = math.prod(sharding.mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))
    shape = (*x.shape[:-1], devices, x.shape[-1] // devices)
    parts = lax.reshape(x, shape, out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*before, names, None)))  # type: ignore[no-untyped-call]
    own = (*reduction.axes[:-1], ndim)  # axis ndim - 1 has the devices now
    elements = jnp.asarray(math.prod(parts.shape[axis] for axis in own), x.dtype)
    mean = rounded_average(jnp.sum(parts, axis=own), elements)
    deviation = parts - jnp.expand_dims(mean, own)
    total, square = jnp.sum(deviation, axis=own), jnp.sum(jnp.square(deviation * power), axis=own)
    rest = rounded_average(total, elements)
    mean_square, about = variance(total * power, square, elements), average(square, elements)

    found = jnp.stack((mean, rest, mean_square, about))
    everywhere = PartitionSpec(*jax.typeof(found).sharding.spec[:-1], None)  # type: ignore[no-untyped-call]
    found = jax.reshard(found, NamedSharding(sharding.mesh, everywhere))  # type: ignore[no-untyped-call]
    mean, rest, mean_square, about = found
    number = jnp.asarray(devices, x.dtype)

    def over_devices(each: Array) -> Array:
        return rounded_average(jnp.sum(each, axis=-1), number)

    middle = over_devices(mean)
    off = (mean - middle[..., None]) + rest
    shift = over_devices(off)
    apart = jnp.square((off - shift[..., None]) * power)
    return RowMoments(middle, shift, over_devices(mean_square + apart), over_devices(about + jnp.square(off * power)))
