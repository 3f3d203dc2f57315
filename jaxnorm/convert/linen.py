"""Converts weights of Flax linen: cells and normalizers, as nested dictionaries of variables."""

from collections.abc import Mapping
from typing import Any

from jaxnorm._base import objects
from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import flax, norms
from jaxnorm.convert.shared.arrays import Arrays, Host, flatten
from jaxnorm.convert.shared.base import Imported, check_mapping, check_spec, refuse, settle
from jaxnorm.convert.shared.flax_model import read_tree
from jaxnorm.convert.shared.model import ImportedModel
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.mgu import MGU


def load(variables: Mapping[str, Any], module: Any = None, *, prefix: str = "") -> Imported:
    """Loads weights of a cell or a normalizer of Flax linen.

    Args:
      variables: the result of ``module.init``, ``{"params": ..., "batch_stats": ...}``, or only the parameters.
      module: the linen module (``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell``, ``MGUCell``, ``SimpleCell``, an
        ``RNN`` around one, ``LayerNorm``, ``RMSNorm``, ``GroupNorm``, ``InstanceNorm``, ``BatchNorm``), or a spec of
        jaxnorm. None works for an LSTM, a GRU and an MGU, which their names identify. A ``ConvLSTMCell`` needs the
        spec, which tells the shape of an image.
      prefix: the path of the module in a larger model, such as ``"encoder/cell/"``. It may be left out where only one
        layer fits.

    Returns:
      Imported(spec, params, stats, notes).

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: an array is missing, unknown or has another shape, or something has no counterpart.

    Example:
      >>> import flax.linen, jax, jax.numpy as jnp
      >>> from jaxnorm import convert
      >>> module = flax.linen.LayerNorm()
      >>> found = convert.linen.load(module.init(jax.random.key(0), jnp.ones((1, 4))), module)
      >>> found.spec.epsilon, found.params.scale.tolist()
      (1e-06, [1.0, 1.0, 1.0, 1.0])

    Notes:
      Flax does not count the data in its running statistics; we set their count to 1.
    """
    where = "convert.linen.load"
    notes: tuple[str, ...] = ()
    if type(module).__name__ == "RNN":
        notes = flax.rnn_notes(module)
        module, prefix = module.cell, f"{prefix}cell/"
    found = _load(Arrays(where, _flat(where, variables), prefix), module)
    return found._replace(notes=(*found.notes, *notes))


def load_model(
    variables: Mapping[str, Any], specs: Mapping[str, Any] | None = None, *, prefix: str = ""
) -> ImportedModel:
    """Loads the variables of a whole model of Flax linen: all layers by the paths that they have there.

    Cells and normalizers come as :func:`load` gives them. All other layers come as dicts of their arrays with Flax's
    names and shapes: the kernel of a ``Dense`` is (I, O), of a ``Conv`` (*window, I / groups, O), the embedding of an
    ``Embed`` (N, F).

    Args:
      variables: the result of ``module.init``, or only the parameters.
      specs: by the path of a layer its spec of jaxnorm, or its linen module. Names tell LSTMs and GRUs; a
        normalizer or a ``SimpleCell`` without a spec comes as its arrays.
      prefix: the path of a part of the model, such as ``"encoder/"``.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: an array of a layer is missing or has another shape, or specs has a path without a layer.

    Example:
      >>> import numpy as np, jaxnorm
      >>> from jaxnorm import convert
      >>> params = {"embed": {"embedding": np.ones((9, 3), "f")}, "norm": {"scale": np.ones(3, "f")}}
      >>> model = convert.linen.load_model({"params": params}, {"norm": jaxnorm.RMSNorm(epsilon=1e-6)})
      >>> model["embed"]["embedding"].shape, model["norm"].params.scale.shape
      ((9, 3), (3,))
    """
    where = "convert.linen.load_model"
    return read_tree(where, _flat(where, variables), specs, _load, prefix)


def _flat(caller: str, variables: Any) -> dict[str, Any]:
    """Returns parameters and batch statistics by path."""
    check_mapping(caller, "variables", variables, "as module.init returns it")
    collections = variables if "params" in variables else {"params": variables}
    values: dict[str, Any] = {}
    for name in ("params", "batch_stats"):
        values |= dict(flatten(collections.get(name, {}), "/"))
    others = [name for name in collections if name not in ("params", "batch_stats")]
    if others:
        raise ValueError(f"{caller}: collections {', '.join(others)} not understood. Pass params and batch_stats only.")
    return values


def _load(arrays: Arrays, module: Any) -> Imported:
    """Loads one layer; ``module`` is a linen module, a spec or None."""
    arrays = flax.locate(arrays, module)
    spec = module if objects.is_spec(module) else None
    module = None if objects.is_spec(module) else module
    kind = flax.cell_kind(arrays)
    if kind is not None:
        return flax.load_cell(arrays, kind, module, spec)
    notes: tuple[str, ...] = ()
    if module is not None:
        made, notes = flax.describe_norm(arrays.where, arrays, module)
        notes += flax.computed_in(module)
        spec = settle(arrays.where, made, spec)
    return norms.load(arrays, spec, flax.NAMES, notes=notes)


def export(spec: Any, params: Any, stats: Any = ()) -> dict[str, Any]:
    """Exports the variables of the Flax linen module that computes the same.

    Args:
      spec: a plain ``LSTM``, ``GRU``, ``MGU``, ``ConvLSTM`` or ``Elman``, or a normalizer. The module needs the same
        ``gate_fn`` and ``activation_fn``.
      params: its weights.
      stats: the running statistics of a ``BatchNorm``.

    Returns:
      ``{"params": ...}``, with ``"batch_stats"`` for a ``BatchNorm``.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: something has no counterpart in Flax.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.gru(4)  # flax.linen.GRUCell(4)
      >>> sorted(convert.linen.export(cell, cell.init(jax.random.key(0), 3))["params"])
      ['hn', 'hr', 'hz', 'in', 'ir', 'iz']

    Notes:
      ``linen.ConvLSTMCell`` adds one to the forget gate at run time; here the one is part of the bias. Its two biases
      only appear as a sum. ``linen.GRUCell`` has a recurrent bias only for the candidate; export adds those of r and z
      to the other bias.
    """
    where = "convert.linen.export"
    check_spec(where, spec)
    if isinstance(spec, ConvLSTM):
        return {"params": nested(flax.export_conv_lstm(where, spec, params))}
    if isinstance(spec, LSTM | GRU | MGU | Elman):
        return {"params": nested(flax.export_cell(where, spec, params, dense=False))}
    if isinstance(spec, tuple):
        refuse(where, "several layers or directions", "they are several cells in Flax, too. Export each by itself.")
    flat = flax.export_norm(where, spec, params, stats)
    found: dict[str, Any] = {"params": {name: flat[name] for name in ("scale", "bias") if name in flat}}
    if isinstance(spec, norms.BatchNorm):
        found["batch_stats"] = {name: flat[name] for name in ("mean", "var")}
    return found


def nested(flat: Mapping[str, Host]) -> dict[str, Any]:
    """Nests arrays keyed by path into dictionaries."""
    found: dict[str, Any] = {}
    for path, array in flat.items():
        inner = found
        *groups, leaf = path.split("/")
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[leaf] = array
    return found
