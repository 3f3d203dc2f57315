"""Division whose derivative does not overflow before the quotient does."""

import jax
import jax.numpy as jnp

from jaxnorm._typing import Array


@jax.custom_jvp
def quotient(x: Array, divisor: Array) -> Array:
    """``x / divisor``, zero where the divisor is; its derivative holds wherever the divisor is a number of the dtype.

    That of a division takes the square of the divisor, which overflows float32 from 1e19 on: the half of the derivative
    that has it in its denominator would be lost, and nothing would tell.
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
