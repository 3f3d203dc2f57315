r"""Multiplicative integration: multiplies input and recurrent product, which other cells add.

.. math:: \alpha \odot N_x(x_t W) \odot N_h(h_{t-1} U) + \beta_1 \odot N_h(h_{t-1} U) + \beta_2 \odot N_x(x_t W) + b
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.cells import base
from jaxnorm.cells.sites import CellNorms
from jaxnorm.cells.preactivation import gates
from jaxnorm.cells.preactivation.gates import ReadyGates
from jaxnorm.norms.core.moments import statistics_dtype


class IntegrationParams(NamedTuple):
    """The vectors of multiplicative integration; None for an omitted term."""

    alpha: Float[Array, "..."]
    """Scales the product of both sides."""
    beta1: Float[Array, "..."] | None
    """Scales the recurrent side."""
    beta2: Float[Array, "..."] | None
    """Scales the input side."""


class ReadyIntegration(NamedTuple):
    """The vectors prepared for a step: in at least float32, with concatenated gates, including the bias."""

    alpha: Float[Array, " GH"]
    beta1: Float[Array, " GH"] | None
    beta2: Float[Array, " GH"] | None
    bias: Float[Array, " GH"] | None


def fresh(
    shape: tuple[int, ...], alpha: float, beta1: float | None, beta2: float | None, dtype: DTypeLike
) -> IntegrationParams:
    """Makes vectors filled with their initial numbers; None omits a term."""

    def vector(start: float) -> Array:
        return jnp.full(shape, start, dtype)

    return IntegrationParams(
        alpha=vector(alpha),
        beta1=None if beta1 is None else vector(beta1),
        beta2=None if beta2 is None else vector(beta2),
    )


def prepare(params: IntegrationParams, bias: Array | None) -> ReadyIntegration:
    """Prepares vectors with separate gates (or without gates) for a sequence."""

    def merge(leaf: Array) -> Array:
        return leaf.reshape(-1).astype(statistics_dtype(leaf.dtype))

    ready: ReadyIntegration = jax.tree.map(merge, ReadyIntegration(*params, bias))
    return ready


def integrate(w_x: Float[Array, "*B GH"], u_h: Float[Array, "*B GH"], by: ReadyIntegration) -> Float[Array, "*B GH"]:
    """Combines both sides, in the dtype of the recurrent one."""
    w_x = w_x.astype(u_h.dtype)
    total = base.align(by.alpha, u_h) * w_x * u_h
    if by.beta1 is not None:
        total = total + base.align(by.beta1, u_h) * u_h
    if by.beta2 is not None:
        total = total + base.align(by.beta2, u_h) * w_x
    return base.add_bias(total, by.bias)


def total(
    ready: ReadyGates,
    by: ReadyIntegration,
    sites: CellNorms,
    groups: tuple[int, ...],
    z_t: Float[Array, "*B GH"],
    a_t: Float[Array, "*B GH"],
    stats_t: CellNorms | None,
    where_t: Bool[Array, "*B"] | None,
) -> tuple[Float[Array, "*B GH"], CellNorms]:
    """Computes the pre-activations of one step from normalized input and recurrent product; also the moments."""
    u_h, m_recurrent = gates.normalize_recurrent(ready, sites, groups, a_t, stats_t, where_t)
    return integrate(z_t, base.add_bias(u_h, ready.recurrent_out), by), CellNorms(recurrent=m_recurrent)


def prepare_gates(params: Any, sites: CellNorms, groups: tuple[int, ...], dtype: DTypeLike | None) -> ReadyGates:
    """Prepares gates with multiplied sides: no bias may move from one side to the other."""
    return gates.prepare(params, sites, groups, dtype, apart=True)
