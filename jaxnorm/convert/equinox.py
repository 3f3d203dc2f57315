"""Converts weights of Equinox: ``LSTMCell``, ``GRUCell`` and normalizers, as live modules.

Modules describe themselves, so only ``export`` imports Equinox.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert.shared import cells, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, check_module, check_spec, refuse, settle
from jaxnorm.convert.shared.model import ImportedModel
from jaxnorm.convert.shared.walk import Library, read_live, walk
from jaxnorm.norms.core.moments import Moments

ORDER = {"LSTMCell": "ifgo", "GRUCell": "rzn"}
NORMS = ("LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")
NAMES = norms.Names("weight", "bias", "mean", "var")
FEATURES_FIRST = "features are on the last axis here: move axis 0 of an example to the end"


def load(module: Any, spec: Any = None, *, state: Any = None) -> Any:
    """Loads weights of a cell or a normalizer of Equinox.

    Args:
      module: ``LSTMCell``, ``GRUCell``, ``LayerNorm``, ``RMSNorm``, ``GroupNorm`` or ``BatchNorm``; or a module of
        another class, whose layers all come as by :func:`load_model`.
      spec: the spec you want, provided that it computes the same; None makes one.
      state: the ``equinox.nn.State`` with the running statistics of a ``BatchNorm``.

    Returns:
      Imported(spec, params, stats, notes); :class:`ImportedModel` for a module of several layers.

    Raises:
      TypeError: the module has no counterpart, or an array does not have a floating-point dtype that JAX supports.
      ValueError: something about the module has no counterpart.

    Example:
      >>> import jax
      >>> import equinox  # doctest: +SKIP
      >>> from jaxnorm import convert
      >>> found = convert.equinox.load(equinox.nn.GRUCell(3, 4, key=jax.random.key(0)))  # doctest: +SKIP
      >>> found.params.recurrent_bias.shape  # doctest: +SKIP
      (12,)

    Notes:
      ``GRUCell`` has a recurrent bias only for the candidate; here it is zero for r and z.
    """
    where = "convert.equinox.load"
    check_module(where, module, "equinox", "a module of Equinox")
    library = _library(state)
    if _is_known(module) or len(list(walk(module, library, _is_known))) == 1:
        return _load(where, module, spec, state)
    return read_live(where, module, spec, library)


def load_model(module: Any, specs: Mapping[str, Any] | None = None, *, state: Any = None) -> ImportedModel:
    """Loads a whole model of Equinox: all layers by their paths, such as ``"layers/0"``.

    Cells and normalizers come as :func:`load` gives them. All other modules come as dicts of their arrays with
    Equinox's names and shapes: the weight of a ``Linear`` is (O, I), of a convolution (O, I / groups, *window), of an
    ``Embedding`` (N, F).

    Args:
      module: a live module of any class.
      specs: by the path of a layer the spec you want, provided that it computes the same.
      state: the ``equinox.nn.State`` with the running statistics of each ``BatchNorm``.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: there is a ``BatchNorm`` and no state, or specs has a path without a layer.

    Example:
      >>> import jax
      >>> import equinox  # doctest: +SKIP
      >>> from jaxnorm import convert
      >>> mlp = equinox.nn.MLP(2, 3, 4, depth=1, key=jax.random.key(0))  # doctest: +SKIP
      >>> list(convert.equinox.load_model(mlp))  # doctest: +SKIP
      ['layers/0', 'layers/1']
    """
    where = "convert.equinox.load_model"
    check_module(where, module, "equinox", "a module of Equinox")
    return read_live(where, module, specs, _library(state))


def _library(state: Any) -> Library:
    def load_one(caller: str, module: Any, spec: Any) -> Imported:
        return _load(caller, module, spec, state if type(module).__name__ == "BatchNorm" else None)

    return Library(_is_module, lambda item: isinstance(item, jax.Array | np.ndarray), _is_known, load_one)


def _is_module(item: Any) -> bool:
    return any(kind.__module__.startswith("equinox") and kind.__name__ == "Module" for kind in type(item).__mro__)


def _is_known(module: Any) -> bool:
    return type(module).__module__.startswith("equinox") and type(module).__name__ in (*ORDER, *NORMS)


def _load(caller: str, module: Any, spec: Any, state: Any) -> Imported:
    """Loads a live cell or normalizer."""
    name = type(module).__name__
    if name in ORDER:
        values = {key: getattr(module, key, None) for key in ("weight_ih", "weight_hh", "bias", "bias_n")}
        arrays = Arrays(caller, {key: value for key, value in values.items() if value is not None})
        parts = _parts(arrays, ORDER[name])
        arrays.finish()
        return Imported(*(cells.lstm if name == "LSTMCell" else cells.gru)(caller, parts, spec))
    made, notes = _describe(caller, module)
    values = {key: getattr(module, key) for key in ("weight", "bias") if getattr(module, key, None) is not None}
    count = 1.0
    if name == "BatchNorm":
        running = _running(caller, module, state)
        values |= {"mean": running.mean, "var": running.var}
        count = float(running.count)
    elif state is not None:
        raise ValueError(f"{caller}: state is for BatchNorm, and this is a {name}. Leave it out.")
    arrays = Arrays(caller, values)
    return norms.load(arrays, settle(caller, made, spec), NAMES, count=count, notes=notes)


def export(spec: Any, params: Any, stats: Any = (), *, into: Any, state: Any = None) -> Any:
    """Exports weights to a module of Equinox that computes the same.

    Args:
      spec: a plain ``LSTM`` or ``GRU``, or a normalizer.
      params: its weights.
      stats: the running statistics of a ``BatchNorm``.
      into: a module of the right kind, sizes and options; export does not change it.
      state: the ``equinox.nn.State`` to update with the running statistics of a ``BatchNorm``.

    Returns:
      The new module; for a ``BatchNorm`` the new module and the new state.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: the module computes something else, or something has no counterpart in Equinox.

    Example:
      >>> import jax, jaxnorm
      >>> import equinox  # doctest: +SKIP
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.lstm(4)
      >>> module = equinox.nn.LSTMCell(3, 4, key=jax.random.key(0))  # doctest: +SKIP
      >>> module = convert.equinox.export(cell, cell.init(jax.random.key(1), 3), into=module)  # doctest: +SKIP

    Notes:
      ``GRUCell`` has a recurrent bias only for the candidate; export adds those of r and z to the other bias.
    """
    import equinox

    where = "convert.equinox.export"
    check_spec(where, spec)
    if isinstance(spec, LSTM | GRU):
        if type(into).__name__ != ("LSTMCell" if isinstance(spec, LSTM) else "GRUCell"):
            refuse(where, repr(spec), f"{type(into).__name__} is another kind of module.")
        flat = _export_cell(where, spec, params)
    else:
        if isinstance(spec, tuple):
            refuse(where, "several layers or directions", "they are several cells in Equinox, too.")
        flat = norms.arrays_of(where, spec, params, stats, NAMES)
        settle(where, _describe(where, into)[0], spec)
    leaves = {name: array for name, array in flat.items() if name not in ("mean", "var")}
    missing = [name for name in ("weight_ih", "weight_hh", "weight", "bias", "bias_n")
               if getattr(into, name, None) is not None and name not in leaves]  # fmt: skip
    if missing:
        raise ValueError(f"{where}: the module has {', '.join(missing)}, which the spec has not.")
    for name, array in leaves.items():
        old = getattr(into, name, None)
        if old is None or old.shape != array.shape or old.dtype != array.dtype:
            there = "nothing" if old is None else f"{old.dtype}{old.shape}"
            raise ValueError(f"{where}: {name} is {array.dtype}{array.shape}, the module has {there} in its place.")
        into = equinox.tree_at(lambda module, name=name: getattr(module, name), into, jnp.asarray(array))
    if not isinstance(spec, norms.BatchNorm):
        return into
    if state is None:
        raise ValueError(f"{where}: the running statistics of a BatchNorm go into a State. Pass state=...")
    mean, var = jnp.asarray(flat["mean"]), jnp.asarray(flat["var"])
    if into.mode == "ema":
        state = state.set(into.ema_state_index, (mean, var))
        return into, state.set(into.ema_first_time_index, jnp.asarray(False))
    counter = int(stats.count)
    scale = jnp.asarray(1 - into.momentum**counter, mean.dtype)
    state = state.set(into.batch_state_index, (mean * scale, var * scale))
    return into, state.set(into.batch_counter, jnp.array(counter))


def _parts(arrays: Arrays, order: str) -> cells.Parts:
    gates = len(order)
    rows, hidden = arrays.matrix("weight_hh", f"({gates} H, H)")
    _, inputs = arrays.matrix("weight_ih", f"({gates} H, I)")
    parts = cells.Parts(
        layouts.kernel_from_rows(arrays.take("weight_ih", (gates * hidden, inputs), f"({gates} H, I)"), order),
        layouts.kernel_from_rows(arrays.take("weight_hh", (gates * hidden, hidden), f"({gates} H, H)"), order),
    )
    if "bias" in arrays:
        vector = arrays.take("bias", (rows,), f"({gates} H,)")
        parts = parts._replace(bias=layouts.vector_from_order(vector, order))
    if order == "rzn" and "bias_n" in arrays:
        of_candidate = arrays.take("bias_n", (hidden,), "(H,)")
        parts = parts._replace(recurrent_bias=cells.recurrent_bias(of_candidate, parts.kernel))
    return parts


def _export_cell(caller: str, cell: Any, params: Any) -> dict[str, Host]:
    parts = cells.parts_of(caller, cell, params)
    order = "ifgo" if isinstance(cell, LSTM) else "rzn"
    if isinstance(cell, GRU):
        parts = cells.candidate_bias_only(caller, parts)
    found = {
        "weight_ih": layouts.kernel_to_rows(parts.kernel, order),
        "weight_hh": layouts.kernel_to_rows(parts.recurrent, order),
    }
    if parts.bias is not None:
        found["bias"] = layouts.vector_to_order(parts.bias, order)
    if parts.recurrent_bias is not None:
        found["bias_n"] = parts.recurrent_bias[-cell.hidden_features :]
    return found


def _describe(caller: str, module: Any) -> tuple[Any, tuple[str, ...]]:
    name = type(module).__name__
    if name in ("LayerNorm", "RMSNorm"):
        axes = len(module.shape)
        kind = norms.LayerNorm if name == "LayerNorm" else norms.RMSNorm
        axis = -1 if axes == 1 else tuple(range(-axes, 0))
        return kind(axis, epsilon=module.eps, use_scale=module.use_weight, use_bias=module.use_bias), ()
    if name in ("GroupNorm", "BatchNorm"):
        affine = {"use_scale": module.channelwise_affine, "use_bias": module.channelwise_affine}
        if name == "GroupNorm":
            return norms.GroupNorm(module.groups, epsilon=module.eps, **affine), (FEATURES_FIRST,)
        notes: tuple[str, ...] = (FEATURES_FIRST,)
        if module.mode == "ema":
            notes += ("mode='ema' normalizes by the moving averages in training too, a BatchNorm by the batch",)
        return norms.BatchNorm(epsilon=module.eps, momentum=module.momentum, **affine), notes
    raise TypeError(
        f"{caller}: {name} is no module that has a counterpart. Pass an LSTMCell, GRUCell, LayerNorm, RMSNorm, "
        "GroupNorm or BatchNorm."
    )


def _running(caller: str, module: Any, state: Any) -> Moments:
    if state is None:
        raise ValueError(f"{caller}: the running statistics of a BatchNorm are in a State. Pass state=...")
    if module.mode == "ema":
        mean, var = state.get(module.ema_state_index)
        if bool(state.get(module.ema_first_time_index)):
            raise ValueError(f"{caller}: the BatchNorm has seen no data; its running statistics are not set.")
        return Moments(mean, var, jnp.ones(()))
    counter = int(state.get(module.batch_counter))
    mean, var = state.get(module.batch_state_index)
    if counter == 0:
        raise ValueError(f"{caller}: the BatchNorm has seen no data; its running statistics are not set.")
    scale = 1 - module.momentum**counter
    return Moments(mean / scale, var / scale, jnp.asarray(float(counter)))
