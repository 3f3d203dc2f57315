"""Batch normalization whose arithmetic runs in a narrow format: every result is rounded to it, forward and backward.

Numbers are kept in float32, so that no compiler widens a chain of operations behind our back. Sums are made in blocks
of about the square root of their number, each partial sum rounded. What flows backward is rounded after each operation
too, its sums made likewise.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

import jaxnorm as jn
from experiments.models.normalizers import Around

SMALLEST = 2.0**-100  # float32 has no quantum for numbers below


def nearest(x: jax.Array, dtype: str) -> jax.Array:
    """The nearest number of a format, ties to even, infinite beyond its largest."""
    form = jnp.finfo(dtype)
    exponent = lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int32) & 0x7F800000, jnp.float32)
    quantum = jnp.maximum(exponent, max(float(form.smallest_normal), SMALLEST)) * 2.0**-form.nmant
    y = jnp.round(x / quantum) * quantum
    y = jnp.where(jnp.abs(y) > float(form.max), jnp.copysign(jnp.inf, x), y)
    return jnp.where(jnp.isinf(x), x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def rounded(x: jax.Array, dtype: str) -> jax.Array:
    """Rounds a result, and on the way back what flows into it."""
    return nearest(x, dtype)


rounded.defvjp(lambda x, dtype: (nearest(x, dtype), None), lambda dtype, _, g: (nearest(g, dtype),))


def _sum(x: jax.Array, dtype: str) -> jax.Array:
    block = math.isqrt(len(x)) + 1
    blocks = jnp.pad(x, ((0, -len(x) % block), (0, 0))).reshape(-1, block, x.shape[1])

    def add(a: jax.Array, b: jax.Array) -> jax.Array:
        return nearest(a + b, dtype)

    zero = jnp.zeros((), x.dtype)
    return lax.reduce(lax.reduce(blocks, zero, add, (1,)), zero, add, (0,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def total(x: jax.Array, dtype: str) -> jax.Array:
    """The sum of each column of (N, F)."""
    return _sum(x, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def spread(values: jax.Array, count: int, dtype: str) -> jax.Array:
    """A value for each column, in each of ``count`` rows; the transpose of :func:`total`."""
    return jnp.broadcast_to(values, (count, *values.shape))


total.defvjp(lambda x, dtype: (_sum(x, dtype), len(x)), lambda dtype, count, g: (spread(g, count, dtype),))
spread.defvjp(
    lambda values, count, dtype: (spread(values, count, dtype), None),
    lambda count, dtype, _, g: (_sum(g, dtype),),
)


@dataclasses.dataclass(frozen=True)
class RoundedBatchNorm(Around):
    r"""Normalizes over the batch with ``deviation``, all of it in ``dtype``.

    .. math::
       y = \text{scale} \cdot \frac{x - \mu}{s} + \text{bias}, \qquad
       s_{L2} = \sqrt{\tfrac1n \sum_i (x_i - \mu)^2 + \epsilon}, \qquad
       s_{L1} = \sqrt{\tfrac\pi2} \, \tfrac1n \sum_i |x_i - \mu| + \epsilon, \qquad
       s_{range} = \frac{\max_i x_i - \min_i x_i}{\sqrt{8 \ln n}} + \epsilon
    """

    norm: jn.Normalizer = jn.BatchNorm(momentum=0.9)
    deviation: Literal["l2", "l1", "range"] = "l2"
    dtype: str = "float16"
    epsilon: float = 1e-5

    def __call__(self, params: Any, x: jax.Array, stats: Any = None, where: Any = None) -> tuple[jax.Array, Any]:
        """Normalizes over all axes but the last; running statistics are averaged outside, in float32."""
        if where is not None:
            raise ValueError("RoundedBatchNorm: where must be None. It has no masks.")
        r = functools.partial(rounded, dtype=self.dtype)
        rows = r(x.reshape(-1, x.shape[-1]))
        each = functools.partial(spread, count=len(rows), dtype=self.dtype)
        mean = self._mean(rows) if stats is None else r(stats.mean)
        deviation = r(rows - each(mean))
        if stats is None:
            measured = self._deviation(rows, deviation)
            var = measured if self.deviation == "l2" else jnp.square(measured)
            stats = jn.Moments(mean, var, jnp.float32(len(rows)))
        else:
            measured = r(stats.var) if self.deviation == "l2" else r(jnp.sqrt(stats.var))
        divisor = r(measured + nearest(jnp.float32(self.epsilon), self.dtype))
        if self.deviation == "l2":
            divisor = r(jnp.sqrt(divisor))
        y = r(deviation * each(r(1 / divisor)))
        y = r(r(y * each(r(params.scale))) + each(r(params.bias)))
        return y.reshape(x.shape), stats

    def _mean(self, rows: jax.Array) -> jax.Array:
        return rounded(rounded(total(rows, self.dtype), self.dtype) / len(rows), self.dtype)

    def _deviation(self, rows: jax.Array, deviation: jax.Array) -> jax.Array:
        """The variance, or the estimate of the deviation."""
        r = functools.partial(rounded, dtype=self.dtype)
        if self.deviation == "l2":
            return self._mean(r(jnp.square(deviation)))
        if self.deviation == "l1":
            return r(self._mean(jnp.abs(deviation)) * nearest(jnp.float32(math.sqrt(math.pi / 2)), self.dtype))
        constant = nearest(jnp.float32(1 / math.sqrt(8 * math.log(max(len(rows), 2)))), self.dtype)
        return r(r(rows.max(axis=0) - rows.min(axis=0)) * constant)
