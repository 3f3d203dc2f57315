"""Exports layers and models as arrays of Keras by name."""

from typing import Any

import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.keras.layer import NORM, ORDER, RMS
from jaxnorm.convert.shared import cells, layouts, norms
from jaxnorm.convert.shared.arrays import Host
from jaxnorm.convert.shared.base import check_spec, refuse
from jaxnorm.convert.shared.model import are_specs, export_layers
from jaxnorm.engine.stacks import Directions
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU


def export(spec: Any, params: Any, stats: Any = ()) -> dict[str, Host]:
    """Exports the arrays, keyed by name, of the Keras layer that computes the same.

    Args:
      spec: a plain ``LSTM``, ``GRU``, ``ResetBeforeGRU`` (``reset_after=False``), ``ConvLSTM`` or ``Elman``,
        ``Directions`` of two of them, or a normalizer. Of a whole model, ``specs`` of :class:`ImportedModel`.
      params: the weights, in the same structure; ``params`` of the model.
      stats: the running statistics of a ``BatchNorm``; ``stats`` of the model.

    Returns:
      Arrays in the order of the layer, for ``layer.set_weights(list(arrays.values()))``. Give the layer the functions
      of the cell: ``recurrent_activation`` is ``gate_fn`` here, ``activation`` is ``activation_fn``. Of a model, arrays
      by the name of the layer and their own, ``"head/kernel"``.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: something has no counterpart in Keras.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.gru(4)  # keras.layers.GRU(4)
      >>> {k: v.shape for k, v in convert.keras.export(cell, cell.init(jax.random.key(0), 3)).items()}
      {'kernel': (3, 12), 'recurrent_kernel': (4, 12), 'bias': (2, 12)}
    """
    where = "convert.keras.export"
    if are_specs(spec):
        return export_layers(where, export, (spec, params, stats), "/")
    check_spec(where, spec)
    if isinstance(spec, Directions):
        names = ("forward_layer", "backward_layer")
        return {
            f"{name}/{key}": array
            for name, cell, weights in zip(names, spec, params, strict=True)
            for key, array in export(cell, weights).items()
        }
    if isinstance(spec, LSTM | GRU | ResetBeforeGRU | Elman):
        return _export_cell(where, spec, params)
    if isinstance(spec, ConvLSTM):
        return _export_conv(where, spec, params)
    if isinstance(spec, tuple):
        refuse(where, "several layers", "they are several layers in Keras, too. Export each by itself.")
    if isinstance(spec, norms.RMSNorm):
        norms.refuse_unlike(where, spec, feature_axis=None, fraction=1.0, use_scale=True, use_bias=False)
        return norms.arrays_of(where, spec, params, stats, RMS)
    if isinstance(spec, norms.LayerNorm):
        norms.refuse_unlike(where, spec, feature_axis=None)
    if isinstance(spec, norms.InstanceNorm | norms.GroupNorm):
        norms.refuse_unlike(where, spec, axis=None)
    return norms.arrays_of(where, spec, params, stats, NORM)


def _export_cell(caller: str, cell: Any, params: Any) -> dict[str, Host]:
    kernel, recurrent, bias, recurrent_bias, _ = cells.parts_of(caller, cell, params, any_functions=True)
    cells.check_named(caller, cell)
    order = ORDER[1 if isinstance(cell, Elman) else kernel.shape[1]]
    found = {
        "kernel": layouts.kernel_to_columns(kernel, order),
        "recurrent_kernel": layouts.kernel_to_columns(recurrent, order),
    }
    if bias is not None:
        both = [bias] if recurrent_bias is None else [bias, recurrent_bias]
        vectors = [layouts.vector_to_order(each, order) for each in both]
        found["bias"] = vectors[0] if len(vectors) == 1 else np.stack(vectors)
    return found


def _export_conv(caller: str, cell: ConvLSTM, params: Any) -> dict[str, Host]:
    if len(cell.image_shape) > 3:
        refuse(caller, f"images with {len(cell.image_shape)} axes", "Keras has them with one, two and three.")
    parts = cells.parts_of(caller, cell, params, any_functions=True)
    cells.check_named(caller, cell)
    found = {"kernel": parts.kernel, "recurrent_kernel": parts.recurrent}
    return found if parts.bias is None else {**found, "bias": parts.bias}
