"""The core of the weight normalizers: length and direction of a vector, defined at zero and without overflow."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array
from jaxnorm.norms.core.moments import centered
from jaxnorm.norms.core.quotient import quotient


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Returns the Euclidean length over ``axes`` (kept at size 1), and ``x`` divided by it.

    The direction of a zero vector is zero, with derivative zero. We scale the largest number to near one before we
    square, so a length is exact whenever the dtype can hold it at all. ``x`` is float32 or wider.
    """
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0.0)
    # The factor is a power of two, so multiplying or dividing by it does not round.
    exponent = jnp.clip(jnp.frexp(largest)[1], -100, 100)
    factor = jnp.ldexp(jnp.ones((), x.dtype), -exponent)
    near_one = x * factor
    squares = jnp.sum(jnp.square(near_one), axis=axes, keepdims=True)
    nothing = squares == 0
    root = jnp.sqrt(jnp.where(nothing, jnp.ones((), x.dtype), squares))
    return jnp.where(nothing, jnp.zeros((), x.dtype), root / factor), near_one / root


@polar.defjvp
def _polar_jvp(
    axes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    r"""For length n and direction d: :math:`\dot n = d \cdot \dot x` and :math:`\dot d = (\dot x - d \dot n) / n`.

    The subtraction makes the gradient of the direction with respect to x orthogonal to x.
    """
    (x,), (t,) = primals, tangents
    length, direction = polar(x, axes)
    length_t = jnp.sum(direction * t, axis=axes, keepdims=True)
    return (length, direction), (length_t, quotient(t - direction * length_t, length))


def unit(x: Array, axes: tuple[int, ...], epsilon: float = 0.0) -> Array:
    """``x / (|x| + epsilon)``; zero at ``x = 0``, with derivative ``1 / epsilon`` there (zero if epsilon is zero)."""
    length, direction = polar(x, axes)
    return direction if epsilon == 0.0 else quotient(x, length + jnp.asarray(epsilon, x.dtype))


def without_mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Subtracts the mean over ``axes``; the result is exactly zero if all elements are equal."""
    return centered(x, None, axes, None)[1]
