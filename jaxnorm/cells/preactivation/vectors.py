"""Vectors beside data: adds biases and casts weights."""

from typing import Any

import jax.numpy as jnp

from jaxnorm._base.typing import Array, Float
from jaxnorm.norms.core.moments import statistics_dtype


def align(weights: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Casts weights for the last axes of ``x`` to its dtype and adds leading axes of size 1."""
    return weights.astype(x.dtype).reshape((1,) * (x.ndim - weights.ndim) + weights.shape)


def add_bias(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """``x + bias`` in the dtype of ``x``; None adds nothing."""
    return x if bias is None else x + align(bias, x)


def add_last_bias(x: Float[Array, "..."], bias: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """Adds a bias to the last features of ``x``, as many as it has."""
    if bias is None or bias.shape[-1] == x.shape[-1]:
        return add_bias(x, bias)
    first, last = jnp.split(x, [x.shape[-1] - bias.size], axis=-1)
    return jnp.concatenate([first, add_bias(last, bias)], axis=-1)


def sum_biases(*biases: Array | None) -> Any:
    """Sums biases in at least float32; None if there are none."""
    present = [bias.astype(statistics_dtype(bias.dtype)) for bias in biases if bias is not None]
    if not present:
        return None
    axes = max(bias.ndim for bias in present)
    aligned = [bias.reshape((1,) * (axes - bias.ndim) + bias.shape) for bias in present]
    return sum(aligned[1:], start=aligned[0])
