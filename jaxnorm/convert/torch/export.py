"""Exports recurrent layers, normalizers and models as state dicts of PyTorch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import cells, layouts, norms
from jaxnorm.convert.shared.arrays import Host
from jaxnorm.convert.shared.base import check_spec, refuse
from jaxnorm.convert.shared.model import export_layers
from jaxnorm.convert.torch.layer import BATCHES, NAMES
from jaxnorm.convert.torch.recurrent import ORDER
from jaxnorm.engine.stacks import Directions
from jaxnorm.zoo.cells.lstm.projected_lstm import ProjectedLSTM


def export(spec: Any, params: Any, stats: Any = ()) -> dict[str, Host]:
    """Exports the state dict, with NumPy arrays, of the PyTorch layer or model that computes the same.

    Args:
      spec: a plain ``LSTM``, ``ProjectedLSTM``, ``GRU`` or ``Elman`` (tanh or relu), ``Directions`` of
        two, a tuple with one entry for each layer; or a normalizer. Of a whole model, ``specs`` of
        :class:`ImportedModel`.
      params: the weights, in the same structure; ``params`` of the model.
      stats: the running statistics of a ``BatchNorm``; ``stats`` of the model.

    Returns:
      Arrays by name; pass ``{name: torch.tensor(array) for ...}`` to ``module.load_state_dict``.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: something has no counterpart in PyTorch.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.gru(4)
      >>> {k: v.shape for k, v in convert.torch.export(cell, cell.init(jax.random.key(0), 3)).items()}
      {'weight_ih_l0': (12, 3), 'weight_hh_l0': (12, 4), 'bias_ih_l0': (12,), 'bias_hh_l0': (12,)}

    Notes:
      The one bias of an LSTM or Elman cell becomes ``bias_ih``, with zeros in ``bias_hh``.
    """
    where = "convert.torch.export"
    if isinstance(spec, Mapping):
        return export_layers(where, export, (spec, params, stats), ".")
    check_spec(where, spec)
    layers = spec if isinstance(spec, tuple) and not isinstance(spec, Directions) else (spec,)
    weights = params if layers is spec else (params,)
    if not isinstance(layers[0], Directions | LSTM | ProjectedLSTM | GRU | Elman):
        return _export_norm(where, spec, params, stats)
    if len(weights) != len(layers):
        raise ValueError(f"{where}: spec has {len(layers)} layers, params {len(weights)}.")
    _check_layers(where, layers)
    found: dict[str, Host] = {}
    for number, (layer, layer_weights) in enumerate(zip(layers, weights, strict=True)):
        both = isinstance(layer, Directions)
        for cell, cell_weights, suffix in zip(
            layer if both else (layer,), layer_weights if both else (layer_weights,), ("", "_reverse"), strict=False
        ):
            arrays = _export_cell(where, cell, cell_weights)
            found |= {f"{name}_l{number}{suffix}": array for name, array in arrays.items()}
    return found


def _export_cell(caller: str, cell: Any, params: Any) -> dict[str, Host]:
    kernel, recurrent, bias, recurrent_bias, projection = cells.parts_of(caller, cell, params)
    if isinstance(cell, Elman):
        cells.check_named(caller, cell, ("tanh", "relu"))
    order = ORDER[1 if isinstance(cell, Elman) else kernel.shape[1]]
    found = {
        "weight_ih": np.ascontiguousarray(layouts.kernel_to_rows(kernel, order)),
        "weight_hh": np.ascontiguousarray(layouts.kernel_to_rows(recurrent, order)),
    }
    if bias is not None:
        found["bias_ih"] = layouts.vector_to_order(bias, order)
        other = np.zeros_like(bias) if recurrent_bias is None else recurrent_bias
        found["bias_hh"] = layouts.vector_to_order(other, order)
    if projection is not None:
        found["weight_hr"] = np.ascontiguousarray(projection.T)
    return found


def _check_layers(caller: str, layers: tuple[Any, ...]) -> None:
    """Checks that all layers have one kind of cell, one size and one number of directions."""
    flat = [cell for layer in layers for cell in (layer if isinstance(layer, Directions) else (layer,))]
    kinds = {
        (type(cell), cell.hidden_features, cell.out_features, cell.use_bias, getattr(cell, "activation_fn", None))
        for cell in flat
        if isinstance(cell, LSTM | ProjectedLSTM | GRU | Elman)
    }
    both = {isinstance(layer, Directions) for layer in layers}
    if (
        len(kinds) != 1
        or len(both) != 1
        or not all(isinstance(cell, LSTM | ProjectedLSTM | GRU | Elman) for cell in flat)
    ):
        refuse(caller, f"a stack of {flat}", "the layers of a module are alike. Export each by itself.")


def _export_norm(caller: str, spec: Any, params: Any, stats: Any) -> dict[str, Host]:
    if isinstance(spec, norms.LayerNorm | norms.RMSNorm):
        trailing = tuple(range(-len(spec.axis), 0)) if isinstance(spec.axis, tuple) else -1
        norms.refuse_unlike(caller, spec, axis=trailing, feature_axis=None, fraction=1.0)
    if isinstance(spec, norms.RMSNorm) and spec.use_bias:
        refuse(caller, "RMSNorm with a bias", "torch.nn.RMSNorm has none.")
    found = norms.arrays_of(caller, spec, params, stats, NAMES)
    if isinstance(spec, norms.BatchNorm):
        found[BATCHES] = np.asarray(int(stats.count))
    return found
