"""Converts weights of Flax NNX: cells and normalizers, as live modules and states."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import flax, norms
from jaxnorm.convert.shared.arrays import Arrays, Host, flatten
from jaxnorm.convert.shared.base import Imported, check_module, check_spec, refuse, settle
from jaxnorm.convert.shared.flax_model import read_tree
from jaxnorm.convert.shared.model import ImportedModel
from jaxnorm.convert.shared.walk import Library, read_live, walk

CELLS = {"LSTMCell": LSTM, "OptimizedLSTMCell": LSTM, "GRUCell": GRU, "SimpleCell": Elman}
LAYERS = ("dense_i", "dense_h", *(side + gate for side in "ih" for gate in ("i", "f", "f_", "g", "o")))
RANDOM = ("RngKey", "RngCount")
CHOOSE = "Pass the part of the state under {!r} alone."
LEAVES = ("scale", "bias", "mean", "var")


def load(module: Any, spec: Any = None) -> Any:
    """Loads weights of a cell or a normalizer of Flax NNX.

    Args:
      module: ``nnx.LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell``, ``SimpleCell``, an ``nnx.RNN`` around one,
        ``LayerNorm``, ``RMSNorm``, ``GroupNorm``, ``InstanceNorm`` or ``BatchNorm``; a module of another class, whose
        layers all come as by :func:`load_model`; or the ``nnx.State`` of a model in which one layer fits.
      spec: the spec you want, provided that it computes the same; None makes one. A state does not tell normalizers
        apart, nor the nonlinearity of a ``SimpleCell``: pass their spec.

    Returns:
      Imported(spec, params, stats, notes); :class:`ImportedModel` for a live module of several layers.

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
    if not isinstance(module, Mapping) or _is_module(module):
        check_module(where, module, "flax.nnx", "a module of Flax NNX")
        if _is_known(module) or len(list(walk(module, LIBRARY, _is_known))) == 1:
            return _load(where, module, spec)
        return read_live(where, module, spec, LIBRARY)
    return _load_arrays(Arrays(where, _flat(where, module), choose=CHOOSE), spec)


def load_model(source: Any, specs: Mapping[str, Any] | None = None) -> ImportedModel:
    """Loads a whole model of Flax NNX: all layers by the paths that they have there.

    Cells and normalizers come as :func:`load` gives them. All other layers come as dicts of their variables with
    Flax's names and shapes: the kernel of a ``Linear`` is (I, O), of a ``Conv`` (*window, I / groups, O), the embedding
    of an ``Embed`` (N, F).

    Args:
      source: a live module, or its ``nnx.State``, also as nested dicts of arrays.
      specs: specs of jaxnorm by the path of a layer. For a state, whose names do not tell normalizers apart, nor the
        nonlinearity of a ``SimpleCell``; those without a spec come as their arrays. A live module needs none.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: an array of a layer is missing or has another shape, or specs has a path without a layer.

    Example:
      >>> from flax import nnx
      >>> from jaxnorm import convert
      >>> rngs = nnx.Rngs(0)
      >>> model = nnx.Dict(rnn=nnx.RNN(nnx.GRUCell(3, 4, rngs=rngs), rngs=rngs), head=nnx.Linear(4, 2, rngs=rngs))
      >>> found = convert.nnx.load_model(model)
      >>> found["rnn"].spec.hidden_features, found["head"]["kernel"].shape
      (4, (4, 2))
    """
    where = "convert.nnx.load_model"
    if isinstance(source, Mapping) and not _is_module(source):
        return read_tree(where, _flat(where, source), specs, _load_arrays)
    check_module(where, source, "flax.nnx", "a module of Flax NNX")
    return read_live(where, source, specs, LIBRARY)


def _load(caller: str, module: Any, spec: Any) -> Imported:
    """Loads a live cell or normalizer."""
    notes: tuple[str, ...] = ()
    if type(module).__name__ == "RNN":
        notes, module = flax.rnn_notes(module), module.cell
    arrays = Arrays(caller, {name: np.asarray(variable[...]) for name, variable in _variables(module)})
    kind = CELLS.get(type(module).__name__)
    if kind is not None:
        found = flax.load_cell(arrays, kind, module, spec)
        return found._replace(notes=(*found.notes, *notes))
    made, notes = flax.describe_norm(caller, arrays, module)
    notes += flax.computed_in(module)
    return norms.load(arrays, settle(caller, made, spec), flax.NAMES, notes=notes)


def _load_arrays(arrays: Arrays, spec: Any) -> Imported:
    """Loads a layer of a state."""
    arrays = flax.locate(arrays, spec)
    kind = flax.cell_kind(arrays)
    return norms.load(arrays, spec, flax.NAMES) if kind is None else flax.load_cell(arrays, kind, None, spec)


def _flat(caller: str, state: Any) -> dict[str, Any]:
    """Returns the arrays of a state by path, under the names of linen; random keys are left out."""
    leaves = {name: leaf for name, leaf in flatten(state, "/") if type(leaf).__name__ not in RANDOM}
    return {
        "/".join(part.removesuffix("_") if part == "if_" else part for part in name.split("/")): _value(leaf)
        for name, leaf in leaves.items()
    }


def _value(leaf: Any) -> Any:
    return leaf[...] if _is_variable(leaf) else leaf


def _is_variable(item: Any) -> bool:
    kinds = [kind.__name__ for kind in type(item).__mro__ if kind.__module__.startswith("flax.nnx")]
    return "Variable" in kinds and type(item).__name__ not in RANDOM


def _is_module(item: Any) -> bool:
    return any((kind.__module__, kind.__name__) == ("flax.nnx.module", "Module") for kind in type(item).__mro__)


def _is_known(module: Any) -> bool:
    kind = type(module)
    name = type(module.cell).__name__ if kind.__name__ == "RNN" else kind.__name__
    return kind.__module__.startswith("flax.nnx") and (name in CELLS or name in flax.NORMS)


LIBRARY = Library(_is_module, _is_variable, _is_known, _load, _value)


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
