r"""Builds convolutional LSTMs from arrays and extracts arrays from them.

Every library has the kernels of one convolution for all gates, (\*window, inputs, 4H); the order of gates differs.
Arrays do not tell the shape of an image, so a spec must, or a live layer.
"""

from typing import Any

import numpy as np

from jaxnorm.cells.lstm import FORGET
from jaxnorm.cells.preactivation.layout import gate_slice
from jaxnorm.cells.sites import CellNorms
from jaxnorm.convert.shared import cells, layouts
from jaxnorm.convert.shared.arrays import Arrays, Host, to_device
from jaxnorm.convert.shared.base import Imported, refuse, settle
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM, ConvLSTMParams

GATED = "igfo"
"""The order of gates in Flax and Haiku, which add one to the forget gate at run time."""


def by_order(array: Host, order: str, *, back: bool = False) -> Host:
    """Reorders the gates on the last axis, (..., 4H), from the given order to ours, or ``back``."""
    gates = array.reshape(*array.shape[:-1], len(order), -1)
    return layouts.reorder(gates, order, back=back).reshape(array.shape)


def take(
    arrays: Arrays, kernel: str, recurrent: str, biases: tuple[str, ...], order: str
) -> tuple[Host, Host, Host | None]:
    """Takes kernels and the sum of all biases that are there, with gates in our order."""
    arrays.expect((kernel, recurrent), biases)
    shape = arrays.shape(kernel)
    hidden = shape[-1] // 4
    if len(shape) < 3 or shape[-1] % 4:
        raise ValueError(f"{arrays.where}: {arrays.prefix}{kernel} must have shape (*window, I, 4 H), got {shape}.")
    found = arrays.take(kernel), arrays.take(recurrent, (*shape[:-2], hidden, shape[-1]), "(*window, H, 4 H)")
    own = [arrays.take(name, (4 * hidden,), "(4 H,)") for name in biases if name in arrays]
    arrays.finish()
    bias = np.sum(own, axis=0).astype(own[0].dtype) if own else None
    w, u = (by_order(array, order) for array in found)
    return w, u, None if bias is None else by_order(bias, order)


def load(caller: str, kernel: Host, recurrent: Host, bias: Host | None, options: dict[str, Any], spec: Any) -> Imported:
    """Builds a plain ConvLSTM; ``options`` are fields that the source tells, the spec has the others."""
    hidden, window = kernel.shape[-1] // 4, kernel.shape[:-2]
    names = ("image_shape", "strides", "padding", "dilation")
    if isinstance(spec, ConvLSTM):
        options = {name: getattr(spec, name) for name in names} | options
    if "image_shape" not in options:
        raise ValueError(
            f"{caller}: these are the arrays of a convolutional LSTM, which do not tell the shape of an image. Pass "
            f"jaxnorm.zoo.ConvLSTM({hidden}, image_shape=..., kernel_size={window}) as spec."
        )
    made = ConvLSTM(hidden, kernel_size=window, use_bias=bias is not None, param_dtype=kernel.dtype, **options)
    cell = settle(caller, made, spec, cells.PLAIN)
    own = None if bias is None else to_device(bias)
    return Imported(cell, ConvLSTMParams(to_device(kernel), to_device(recurrent), own, None, CellNorms()))


def add_to_forget(bias: Host, number: int) -> Host:
    """Adds a number to the bias of the forget gate, which Flax and Haiku add at run time."""
    changed = bias.copy()
    changed[gate_slice(FORGET, bias.size // 4)] += number
    return changed


def load_gated(arrays: Arrays, kernel: str, recurrent: str, biases: tuple[str, ...], spec: Any) -> Imported:
    """Loads the arrays of Flax or Haiku; their forget gate has a bias of one at least."""
    w, u, bias = take(arrays, kernel, recurrent, biases, GATED)
    bias = add_to_forget(np.zeros(w.shape[-1], w.dtype) if bias is None else bias, 1)
    return load(arrays.where, w, u, bias, {}, spec)


def export_gated(caller: str, cell: ConvLSTM, params: Any) -> tuple[Host, Host, Host]:
    """Extracts kernels and bias in the order of Flax and Haiku, without the one that these add."""
    ones = (1,) * len(cell.image_shape)
    for name, only in (("strides", ones), ("dilation", ones), ("padding", "SAME")):
        if getattr(cell, name) != only:
            refuse(caller, f"{name}={getattr(cell, name)!r}", "it would act on the state there, too.")
    parts = cells.parts_of(caller, cell, params)
    bias = np.zeros(parts.kernel.shape[-1], parts.kernel.dtype) if parts.bias is None else parts.bias
    kernel, recurrent = (by_order(each, GATED, back=True) for each in (parts.kernel, parts.recurrent))
    return kernel, recurrent, by_order(add_to_forget(bias, -1), GATED, back=True)
