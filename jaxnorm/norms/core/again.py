"""Batch statistics that were measured before: their values, with the derivative of measuring them."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array, AxisName, Bool, Float
from jaxnorm.norms.core.moments import Moments, across, average, masked


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def measured_before(
    axis_name: AxisName | None, x: Float[Array, "*B F"], where: Bool[Array, "..."] | None, moments: Moments
) -> Moments:
    r"""Returns the moments of ``x`` over all axes but the last, which an earlier call measured.

    Measuring again would cost a collective where the batch spans devices. Its derivative still costs one:

    .. math:: \dot \mu = \frac1m \sum_i \dot x_i, \qquad \dot{\sigma^2} = \frac2m \sum_i (x_i - \mu) \dot x_i
    """
    return moments


@measured_before.defjvp
def _measured_before_jvp(
    axis_name: AxisName | None, primals: tuple[Array, Array | None, Moments], tangents: tuple[Any, Any, Any]
) -> tuple[Moments, Moments]:
    x, where, moments = primals
    d_x = tangents[0]  # the moments are what measuring x gave: their own tangent would count it twice
    axes = tuple(range(x.ndim - 1))
    dtype = moments.mean.dtype
    mean = moments.mean.reshape((1,) * len(axes) + moments.mean.shape)
    deviation, d_x = (masked(part, where) for part in (x.astype(dtype) - mean, d_x.astype(dtype)))
    sums = across((jnp.sum(d_x, axis=axes), jnp.sum(deviation * d_x, axis=axes)), axis_name)
    d_mean, d_half = (average(total, moments.count.astype(dtype)) for total in sums)
    return moments, Moments(d_mean, 2 * d_half, jnp.zeros_like(moments.count))
