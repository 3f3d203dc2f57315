"""Gathers the bias of a normalizer into the bias that follows it, so that a step adds one bias instead of two."""

from jaxnorm._base.typing import Array
from jaxnorm.cells.preactivation.vectors import sum_biases
from jaxnorm.norms.base import Normalizer, Params, Reducible


def gather_bias(norm: Normalizer, params: Params, bias: Array | None) -> tuple[Params, Array | None]:
    """Moves the bias of a normalizer that adds it last into the bias that follows."""
    if not isinstance(norm, Reducible) or not norm.adds_bias_last or params.bias is None:
        return params, bias
    return params._replace(bias=None), sum_biases(bias, params.bias)
