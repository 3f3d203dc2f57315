"""A division whose derivative does not overflow before the quotient does."""

import jax
import jax.numpy as jnp

from jaxnorm._base.typing import Array


@jax.custom_jvp
def quotient(x: Array, divisor: Array) -> Array:
    """``x / divisor``, or zero where the divisor is zero; the derivative is right for every finite divisor.

    JAX's derivative of a division squares the divisor, which overflows float32 above 1e19. The term with the square in
    its denominator would then silently become zero.
    """
    nothing = divisor == 0
    zero, one = jnp.zeros((), x.dtype), jnp.ones((), x.dtype)
    return jnp.where(nothing, zero, x / jnp.where(nothing, one, divisor))


@quotient.defjvp
def _quotient_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    r"""For :math:`y = x / d`: :math:`\dot y = (\dot x - y \dot d) / d`."""
    (x, divisor), (x_t, divisor_t) = primals, tangents
    y = quotient(x, divisor)
    return y, quotient(x_t - y * divisor_t, divisor)
