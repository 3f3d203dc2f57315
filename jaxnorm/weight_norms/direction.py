"""The shared core of the weight normalizers: length and direction of a vector, defined at zero, without overflow."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array
from jaxnorm.norms.core.moments import centered
from jaxnorm.norms.core.quotient import quotient


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def polar(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """The Euclidean length over ``axes`` (kept at size 1) and ``x`` divided by it.

    The direction of a zero vector is zero, with derivative zero. Squares are taken of numbers near one, so that a
    length is exact wherever it is a number of the dtype at all. ``x`` is in float32 or wider.
    """
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0.0)
    # A power of two: multiplying by it and by its inverse rounds nothing.
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

    What is subtracted makes the gradient with respect to x orthogonal to x.
    """
    (x,), (t,) = primals, tangents
    length, direction = polar(x, axes)
    length_t = jnp.sum(direction * t, axis=axes, keepdims=True)
    return (length, direction), (length_t, quotient(t - direction * length_t, length))


def unit(x: Array, axes: tuple[int, ...], epsilon: float = 0.0) -> Array:
    """``x / (|x| + epsilon)``; zero where ``x`` is zero, with derivative zero if epsilon is, else ``1 / epsilon``."""
    length, direction = polar(x, axes)
    return direction if epsilon == 0.0 else quotient(x, length + jnp.asarray(epsilon, x.dtype))


def without_mean(x: Array, axes: tuple[int, ...]) -> Array:
    """``x`` without its mean over ``axes``: exactly zero where all elements are equal."""
    return centered(x, None, axes, None)[1]
