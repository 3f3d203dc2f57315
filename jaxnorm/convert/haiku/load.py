"""Loads cores, normalizers and whole models from parameters and state of Haiku."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnorm.cells.lstm import FORGET
from jaxnorm.cells.preactivation.layout import gate_slice
from jaxnorm.convert.haiku import deep
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host, found_note, listed
from jaxnorm.convert.shared.base import Imported, check_mapping
from jaxnorm.convert.shared.model import ImportedModel, check_specs, plain

ORDER = "igfo"
GRU_ORDER = "zrn"
CONV = ("input_to_hidden/w", "hidden_to_hidden/w", "input_to_hidden/b", "hidden_to_hidden/b")
NAMES = norms.Names("scale", "offset", "mean", "var")


def load(
    params: Mapping[str, Any],
    spec: Any = None,
    *,
    state: Any = None,
    name: str | tuple[str, ...] | None = None,
    skip_connections: bool = False,
) -> Imported:
    """Loads weights of a core or a normalizer of Haiku.

    Args:
      params: the parameters by module name, as ``transform(...).init`` returns them.
      spec: None for ``hk.LSTM``, ``hk.GRU`` and ``hk.VanillaRNN``; for ``hk.Conv2DLSTM`` and the like a ``ConvLSTM``,
        which tells the shape of an image; for a normalizer its spec, such as ``LayerNorm(epsilon=1e-5)``, since Haiku
        keeps epsilon and the like in the program.
      state: the state by module name, for ``hk.BatchNorm``.
      name: the name of the module in a larger model, such as ``"my_net/~/lstm"``; for the cores of
        ``hk.DeepRNN`` a tuple of names, from input to output. It may be left out where only one module fits.
      skip_connections: whether the cores come from ``hk.deep_rnn_with_skip_connections``: run these with
        :func:`jaxnorm.skip_stack`, others with :func:`jaxnorm.stack`.

    Returns:
      Imported(spec, params, stats, notes).

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports, or a normalizer has no spec.
      ValueError: an array is missing, unknown or has another shape, or something has no counterpart.

    Example:
      >>> import numpy as np
      >>> from jaxnorm import convert
      >>> found = convert.haiku.load({"lstm/linear": {"w": np.ones((5, 8), "f"), "b": np.zeros(8, "f")}})
      >>> found.params.kernel.shape, found.params.bias.tolist()
      ((3, 4, 2), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    Notes:
      ``hk.LSTM`` and ``hk.Conv2DLSTM`` add one to the forget gate at run time; here the one is part of the bias. The
      two biases of ``hk.Conv2DLSTM`` only appear as a sum. ``hk.VanillaRNN`` uses a ReLU, and the update gate of
      ``hk.GRU`` renews the state. The running statistics of ``hk.BatchNorm`` are its bias-corrected averages, and their
      count is the number of its updates. The input of a core with a skip connection precedes the outputs of the core
      below; in a cell of ``skip_stack`` it follows them, so the rows of kernels trade places.
    """
    where = "convert.haiku.load"
    _check(where, params)
    if isinstance(name, tuple):
        specs = spec if isinstance(spec, tuple) else (spec,) * len(name)
        layers = [load(params, own, name=one) for own, one in zip(specs, name, strict=True)]
        return deep.join(where, layers, skip_connections)
    if name is None:
        chosen = _find(where, params, spec)
        found = _load(where, params, spec, state, chosen)
        return found if chosen is None else found._replace(notes=(*found.notes, found_note(chosen)))
    return _load(where, params, spec, state, name)


def load_model(
    params: Mapping[str, Any], specs: Mapping[str, Any] | None = None, *, state: Any = None
) -> ImportedModel:
    """Loads the parameters of a whole model of Haiku: all modules by the names that they have there.

    Cores and normalizers come as :func:`load` gives them. All other modules come as dicts of their arrays with Haiku's
    names and shapes: the ``w`` of a ``Linear`` is (I, O), of a ``Conv`` (*window, I / groups, O), the ``embeddings`` of
    an ``Embed`` (N, F).

    Args:
      params: the parameters by module name, as ``transform(...).init`` returns them.
      specs: specs of jaxnorm by the name of a module. The names of arrays tell an ``hk.GRU``; an ``hk.LSTM`` and an
        ``hk.VanillaRNN`` are known by the names of their classes (``"net/~/lstm_1"``), under another name by a
        spec. A normalizer without a spec comes as its arrays.
      state: the state by module name. That of an ``hk.BatchNorm`` with a spec goes into its statistics, other state
        comes as its arrays.

    Returns:
      ImportedModel(layers, kinds, tied, notes), a dict of layers.

    Raises:
      TypeError: an array does not have a dtype that JAX supports.
      ValueError: an array of a core is missing or has another shape, or specs has a name without a module.

    Example:
      >>> import numpy as np
      >>> from jaxnorm import convert
      >>> lstm, head = {"w": np.ones((5, 8), "f"), "b": np.zeros(8, "f")}, {"w": np.ones((2, 4), "f")}
      >>> model = convert.haiku.load_model({"net/~/lstm/linear": lstm, "net/~/head": head})
      >>> model["net/~/lstm"].spec.hidden_features, model["net/~/head"]["w"].shape
      (2, (2, 4))
    """
    where = "convert.haiku.load_model"
    _check(where, params)
    check_mapping(where, "state", state or {}, "as transform_with_state(...).init returns it")
    roots = _roots(params)
    specs = check_specs(where, specs, [*params, *roots.values()])
    layers: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    notes: list[str] = []
    for module, arrays in params.items():
        root = next((own for own in (module, roots[module]) if own in specs or _kind(params, own)), None)
        if root is None:
            layers[module] = plain(where, arrays, f"{module}/")
        elif root not in layers:
            layers[root] = _load(f"{where}: {root}", params, specs.get(root), state, root)
            kinds[root] = type(layers[root].spec).__name__
            notes += [f"{root}: {note}" for note in layers[root].notes]
    taken = [name for name in specs if layers[name].stats != ()]
    for module, arrays in (state or {}).items():
        if module.rpartition("/~/")[0] not in taken:
            layers[module] = plain(where, arrays, f"{module}/")
    return ImportedModel(layers, kinds, {}, tuple(notes))


def _check(caller: str, params: Any) -> None:
    check_mapping(caller, "params", params, "as transform(...).init returns it")
    for module, arrays in params.items():
        check_mapping(caller, f"params[{module!r}]", arrays, "of arrays by name")


def _load(caller: str, params: Mapping[str, Any], spec: Any, state: Any, name: str | None) -> Imported:
    where = caller
    arrays = Arrays(where, _select(where, params, name))
    if "input_to_hidden/w" in arrays:
        return conv_lstm.load_gated(arrays, *CONV[:2], CONV[2:], spec)
    if "linear_1/w" in arrays:
        return _load_vanilla(arrays, spec)
    if "linear/w" in arrays:
        return _load_lstm(arrays, spec)
    if "w_h" in arrays or "w_i" in arrays:
        return _load_gru(arrays, spec)
    values = {key: _flat(arrays.take(key)) for key in arrays.names}
    count = 1.0
    notes: tuple[str, ...] = ()
    if isinstance(spec, norms.BatchNorm):
        values |= _running(where, state, name)
        count = float(values.pop("count"))
        notes = (
            "the averages of hk.BatchNorm begin at zero and are corrected for it; going on, fold has no such term",
        )
    return norms.load(Arrays(where, values), spec, NAMES, count=count, notes=notes)


def _load_lstm(arrays: Arrays, spec: Any) -> Imported:
    arrays.expect(("linear/w", "linear/b"))
    rows, columns = arrays.matrix("linear/w", "(I + H, 4 H)")
    hidden = columns // 4
    if columns % 4 or rows <= hidden:
        raise ValueError(f"{arrays.where}: linear/w must have shape (I + H, 4 H), got {(rows, columns)}.")
    kernel = layouts.kernel_from_columns(arrays.take("linear/w"), ORDER)
    bias = layouts.vector_from_order(arrays.take("linear/b", (columns,), "(4 H,)"), ORDER)
    bias[gate_slice(FORGET, hidden)] += 1
    arrays.finish()
    inputs = rows - hidden
    return Imported(*cells.lstm(arrays.where, cells.Parts(kernel[:inputs], kernel[inputs:], bias), spec))


def _load_gru(arrays: Arrays, spec: Any) -> Imported:
    arrays.expect(("w_i", "w_h", "b"))
    inputs, columns = arrays.matrix("w_i", "(I, 3 H)")
    hidden = columns // 3
    parts = cells.Parts(
        layouts.kernel_from_columns(arrays.take("w_i", (inputs, 3 * hidden), "(I, 3 H)"), GRU_ORDER),
        layouts.kernel_from_columns(arrays.take("w_h", (hidden, 3 * hidden), "(H, 3 H)"), GRU_ORDER),
        layouts.vector_from_order(arrays.take("b", (3 * hidden,), "(3 H,)"), GRU_ORDER),
    )
    arrays.finish()
    return Imported(*cells.reset_before_gru(arrays.where, parts, spec, "renew"))


def _load_vanilla(arrays: Arrays, spec: Any) -> Imported:
    arrays.expect(("linear/w", "linear/b", "linear_1/w"), ("linear_1/b",))
    inputs, hidden = arrays.matrix("linear/w", "(I, H)")
    parts = cells.Parts(
        arrays.take("linear/w", (inputs, hidden), "(I, H)"), arrays.take("linear_1/w", (hidden, hidden), "(H, H)")
    )
    bias = arrays.take("linear/b", (hidden,), "(H,)")
    other = arrays.take("linear_1/b", (hidden,), "(H,)") if "linear_1/b" in arrays else None
    arrays.finish()
    return Imported(*cells.elman(arrays.where, parts._replace(bias=cells.add_biases(bias, other)), jax.nn.relu, spec))


def _roots(params: Mapping[str, Any]) -> dict[str, str]:
    """Returns the name of the module that each module belongs to: a core has inner linear layers."""
    return {module: re.sub(r"/(linear(_\d+)?|input_to_hidden|hidden_to_hidden)$", "", module) for module in params}


def _kind(params: Mapping[str, Any], root: str) -> str:
    """Returns the class of a core by the names of its arrays, and by its own for those with linear layers."""
    own = re.sub(r"_\d+$", "", root.rpartition("/")[2])
    if {"w_i", "w_h"} & set(params.get(root, {})):
        return "GRU"
    if f"{root}/hidden_to_hidden" in params:
        return "ConvLSTM"
    if own == "lstm" and f"{root}/linear" in params and f"{root}/linear_1" not in params:
        return "LSTM"
    return "VanillaRNN" if own == "vanilla_rnn" and f"{root}/linear_1" in params else ""


def _find(caller: str, params: Mapping[str, Any], spec: Any) -> str | None:
    """Returns the name of the only module that fits, among several; None if there is one module."""
    roots = list(dict.fromkeys(_roots(params).values()))
    if len(roots) < 2:
        return None
    if isinstance(spec, norms.KINDS):
        wanted = {name for name, used in zip(NAMES, (spec.use_scale, spec.use_bias), strict=False) if used}
        fitting = [root for root in roots if set(params.get(root, {})) == wanted]
    else:
        fitting = [root for root in roots if _kind(params, root)]
    if len(fitting) != 1:
        raise ValueError(f"{caller}: there are {listed(fitting or roots)}. Pass name=... with that of one module.")
    return fitting[0]


def _select(caller: str, params: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Selects the arrays of one module by name, including those of its inner linear layers."""
    roots = _roots(params)
    found: dict[str, Any] = {}
    for module, arrays in params.items():
        if name is None or module == name or roots[module] == name:
            inner = module[len(roots[module]) + 1 :]
            found |= {f"{inner}/{key}" if inner else key: value for key, value in arrays.items()}
    if not found and name is not None and params:
        raise ValueError(f"{caller}: there is no module name={name!r}, only {listed(dict.fromkeys(roots.values()))}.")
    return found


def _running(caller: str, state: Any, name: str | None) -> dict[str, Any]:
    if not state:
        raise ValueError(f"{caller}: the running statistics of a BatchNorm are in the state. Pass state=...")
    found: dict[str, Any] = {}
    for key, ema in (("mean", "mean_ema"), ("var", "var_ema")):
        matches = [m for m in state if m.endswith(f"/~/{ema}") and (name is None or m == f"{name}/~/{ema}")]
        if len(matches) != 1:
            raise ValueError(f"{caller}: the state has {len(matches)} modules {name or '...'}/~/{ema}, expected one.")
        found[key] = _flat(np.asarray(state[matches[0]]["average"]))
        found["count"] = np.asarray(state[matches[0]]["counter"])
    return found


def _flat(array: Host) -> Host:
    """Drops leading axes of size one, which Haiku's BatchNorm arrays have."""
    return array.reshape(array.shape[-1:]) if array.ndim > 1 and array.size == array.shape[-1] else array
