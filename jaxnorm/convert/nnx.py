"""Converts weights of Flax NNX: cells and normalizers, as live modules."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import flax, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, check_module, check_spec, refuse, settle

CELLS = {"LSTMCell": LSTM, "OptimizedLSTMCell": LSTM, "GRUCell": GRU, "SimpleCell": Elman}
LAYERS = ("dense_i", "dense_h", *(side + gate for side in "ih" for gate in ("i", "f", "f_", "g", "o")))
LEAVES = ("scale", "bias", "mean", "var")


def load(module: Any, spec: Any = None) -> Imported:
    """Loads weights of a cell or a normalizer of Flax NNX.

    Args:
      module: ``nnx.LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell``, ``SimpleCell``, an ``nnx.RNN`` around one,
        ``LayerNorm``, ``RMSNorm``, ``GroupNorm``, ``InstanceNorm`` or ``BatchNorm``.
      spec: the spec you want, provided that it computes the same; None makes one.

    Returns:
      Imported(spec, params, stats, notes).

    Raises:
      TypeError: the module has no counterpart, or an array does not have a floating-point dtype that JAX supports.
      ValueError: something about the module has no counterpart.

    Example:
      >>> from flax import nnx
      >>> from jaxnorm import convert
      >>> found = convert.nnx.load(nnx.GRUCell(3, 4, rngs=nnx.Rngs(0)))
      >>> found.spec.hidden_features, found.params.kernel.shape
      (4, (3, 3, 4))

    Notes:
      ``nnx.GRUCell`` has no recurrent bias; it is zero here. Flax does not count the data in its running
      statistics; we set their count to 1.
    """
    where = "convert.nnx.load"
    check_module(where, module, "flax.nnx", "a module of Flax NNX")
    notes: tuple[str, ...] = ()
    if type(module).__name__ == "RNN":
        notes, module = flax.rnn_notes(module), module.cell
    values = {name: np.asarray(variable[...]) for name, variable in _variables(module)}
    arrays = Arrays(where, values)
    kind = CELLS.get(type(module).__name__)
    if kind is not None:
        found = flax.load_cell(arrays, kind, module, spec)
        return found._replace(notes=(*found.notes, *notes))
    made, notes = flax.describe_norm(where, arrays, module)
    notes += flax.computed_in(module)
    return norms.load(arrays, settle(where, made, spec), flax.NAMES, notes=notes)


def export(spec: Any, params: Any, stats: Any = (), *, into: Any) -> Any:
    """Fills a module of Flax NNX with the weights of a cell or normalizer that computes the same.

    Args:
      spec: a plain ``LSTM``, ``GRU`` or ``Elman``, or a normalizer. The module needs the same ``gate_fn`` and
        ``activation_fn``.
      params: its weights.
      stats: the running statistics of a ``BatchNorm``.
      into: the module, of the right kind, sizes and options; export replaces its variables.

    Returns:
      The module.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: the module computes something else, or something has no counterpart in Flax.

    Example:
      >>> import jax, jaxnorm
      >>> from flax import nnx
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.lstm(4)
      >>> module = nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0))
      >>> filled = convert.nnx.export(cell, cell.init(jax.random.key(0), 3), into=module)
      >>> filled.dense_h.bias[...].tolist()[4:8]  # the forget gate
      [1.0, 1.0, 1.0, 1.0]

    Notes:
      ``nnx.GRUCell`` has no recurrent bias: export adds those of r and z to the other bias, and refuses a nonzero one
      of the candidate.
    """
    where = "convert.nnx.export"
    check_spec(where, spec)
    if isinstance(spec, LSTM | GRU | Elman):
        if CELLS.get(type(into).__name__) is not type(spec):
            refuse(where, repr(spec), f"{type(into).__name__} is another kind of cell.")
        flax.check_functions(where, spec, into)
        flat = flax.export_cell(where, spec, params, dense=type(into).__name__ != "LSTMCell")
    else:
        flat = flax.export_norm(where, spec, params, stats)
        settle(where, flax.describe_norm(where, Arrays(where, flat), into)[0], spec)
    variables = dict(_variables(into))
    _check_names(where, flat, variables)
    for name, array in flat.items():
        variables[name][...] = jnp.asarray(array, variables[name][...].dtype)
    return into


def _check_names(caller: str, flat: dict[str, Host], variables: dict[str, Any]) -> None:
    if flat.keys() != variables.keys():
        raise ValueError(f"{caller}: the module has {sorted(variables)}, the spec gives {sorted(flat)}.")
    for name, array in flat.items():
        expected = variables[name][...]
        if array.shape != expected.shape:
            raise ValueError(f"{caller}: {name} must have shape {expected.shape} as in the module, got {array.shape}.")
        if array.dtype != expected.dtype:
            raise TypeError(f"{caller}: {name} is in {array.dtype}, in the module in {expected.dtype}. Convert one.")


def _variables(module: Any) -> Iterator[tuple[str, Any]]:
    """Yields the variables of a cell or a normalizer, under the names of linen."""
    for layer in LAYERS:
        inner = getattr(module, layer, None)
        if hasattr(inner, "kernel"):
            for leaf in ("kernel", "bias"):
                variable = getattr(inner, leaf)
                if variable is not None and variable[...] is not None:
                    yield f"{layer.rstrip('_')}/{leaf}", variable
    for leaf in LEAVES:
        variable = getattr(module, leaf, None)
        if variable is not None and hasattr(variable, "__getitem__"):
            yield leaf, variable
