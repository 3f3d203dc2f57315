r"""Multiplicative integration: multiplies input and recurrent product, which other cells add.

.. math:: \alpha \odot N_x(x_t W) \odot N_h(h_{t-1} U) + \beta_1 \odot N_h(h_{t-1} U) + \beta_2 \odot N_x(x_t W) + b
"""

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, DTypeLike, Float
from jaxnorm.cells.preactivation.vectors import add_bias, align
from jaxnorm.norms.core.moments import statistics_dtype

__all__ = ["IntegrationParams"]


class IntegrationParams(NamedTuple):
    """The vectors of multiplicative integration; None for an omitted term."""

    alpha: Float[Array, " GH"]
    """Scales the product of both sides."""
    beta1: Float[Array, " GH"] | None
    """Scales the recurrent side."""
    beta2: Float[Array, " GH"] | None
    """Scales the input side."""


class IntegrationWeights(NamedTuple):
    """The vectors prepared for a sequence, in at least float32, with the bias."""

    alpha: Float[Array, " GH"]
    beta1: Float[Array, " GH"] | None
    beta2: Float[Array, " GH"] | None
    bias: Float[Array, " GH"] | None


def init_integration(
    features: int, alpha: float, beta1: float | None, beta2: float | None, dtype: DTypeLike
) -> IntegrationParams:
    """Makes vectors filled with their initial numbers; None omits a term."""

    def vector(start: float) -> Array:
        return jnp.full((features,), start, dtype)

    return IntegrationParams(
        alpha=vector(alpha),
        beta1=None if beta1 is None else vector(beta1),
        beta2=None if beta2 is None else vector(beta2),
    )


def prepare_integration(params: IntegrationParams, bias: Array | None) -> IntegrationWeights:
    """Casts the vectors and gathers them with the bias."""
    weights: IntegrationWeights = jax.tree.map(
        lambda leaf: leaf.astype(statistics_dtype(leaf.dtype)), IntegrationWeights(*params, bias)
    )
    return weights


def integrate(x: Float[Array, "*B GH"], h: Float[Array, "*B GH"], weights: IntegrationWeights) -> Float[Array, "*B GH"]:
    """Combines both sides."""
    total = align(weights.alpha, h) * x * h
    if weights.beta1 is not None:
        total = total + align(weights.beta1, h) * h
    if weights.beta2 is not None:
        total = total + align(weights.beta2, h) * x
    return add_bias(total, weights.bias)
