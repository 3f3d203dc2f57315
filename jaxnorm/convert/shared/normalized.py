"""Builds normalized cells from arrays and extracts their arrays: layer normalization of both products and of c."""

from collections.abc import Callable
from typing import Any

from jaxnorm.convert.shared import layouts
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device, to_numpy
from jaxnorm.convert.shared.base import NEUTRAL, refuse, require_same
from jaxnorm.engine.arguments.checks import check_params
from jaxnorm.norms.base import Affine

NEUTRAL_TO_NORMS = NEUTRAL | {"max_steps"}
"""Fields that affect neither weights nor function if the normalizers have no running statistics."""


def take_kernels(arrays: Arrays, order: str) -> tuple[Host, Host]:
    """Takes ``kernel`` (I, G H) and ``recurrent_kernel`` (H, G H) as kernels in our order of gates."""
    gates = len(order)
    hidden, _ = arrays.matrix("recurrent_kernel", f"(H, {gates} H)")
    inputs, _ = arrays.matrix("kernel", f"(I, {gates} H)")
    kernel = arrays.take("kernel", (inputs, gates * hidden), f"(I, {gates} H)")
    recurrent = arrays.take("recurrent_kernel", (hidden, gates * hidden), f"(H, {gates} H)")
    return layouts.kernel_from_columns(kernel, order), layouts.kernel_from_columns(recurrent, order)


def take_vector(arrays: Arrays, name: str, order: str, hidden: int) -> Host:
    """Takes a vector (G H,) with the gates in our order."""
    vector = arrays.take(name, (len(order) * hidden,), f"({len(order)} H,)")
    return layouts.vector_from_order(vector, order)


def affine(scale: Host, bias: Host | None = None) -> Affine:
    """Makes the weights of a layer normalization."""
    return Affine(to_device(scale), None if bias is None else to_device(bias))


def checked(caller: str, spec: Any, preset: Callable[..., Any], params: Any) -> Any:
    """Checks that a cell equals the preset and has nothing that the other library lacks; returns its weights."""
    require_same(caller, spec, preset(spec.hidden_features, use_bias=spec.use_bias), NEUTRAL_TO_NORMS)
    check_params(spec, params, caller)
    if params.carry is not None:
        refuse(caller, "a learned initial carry", "hand it over as the initial state, and take it out of params.")
    return params


def kernels_of(params: Any, order: str) -> dict[str, Host]:
    """Returns ``kernel`` and ``recurrent_kernel`` in the given order of gates."""
    return {
        "kernel": layouts.kernel_to_columns(to_numpy(params.kernel), order),
        "recurrent_kernel": layouts.kernel_to_columns(to_numpy(params.recurrent), order),
    }


def vector_of(array: Any, order: str) -> Host:
    """Returns a vector (G H,) with the gates in the given order."""
    return layouts.vector_to_order(to_numpy(array), order)
