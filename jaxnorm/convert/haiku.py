"""Converts weights of Haiku: cores and normalizers, as dictionaries of parameters and state.

Haiku keeps hyper-parameters only in the program, so we do not import it.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.lstm import FORGET, LSTM
from jaxnorm.cells.preactivation.layout import gate_slice
from jaxnorm.convert import _haiku_deep as deep
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host, listed
from jaxnorm.convert.shared.base import Imported, check_mapping, check_spec, refuse
from jaxnorm.engine.stacks import Directions
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU

ORDER = "igfo"
GRU_ORDER = "zrn"
CONV = ("input_to_hidden/w", "hidden_to_hidden/w", "input_to_hidden/b", "hidden_to_hidden/b")
NAMES = norms.Names("scale", "offset", "mean", "var")
_CLASSES: dict[Any, str] = {LSTM: "lstm", ResetBeforeGRU: "gru", Elman: "vanilla_rnn"}
Exported: TypeAlias = tuple[dict[str, dict[str, Host]], dict[str, dict[str, Host]]]
"""Parameters and state by module name."""


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
        ``hk.DeepRNN`` a tuple of names, from input to output.
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
    check_mapping(where, "params", params, "as transform(...).init returns it")
    for module, arrays_of in params.items():
        check_mapping(where, f"params[{module!r}]", arrays_of, "of arrays by name")
    if isinstance(name, tuple):
        specs = spec if isinstance(spec, tuple) else (spec,) * len(name)
        layers = [load(params, own, name=one) for own, one in zip(specs, name, strict=True)]
        return deep.join(where, layers, skip_connections)
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


def export(
    spec: Any,
    params: Any,
    stats: Any = (),
    *,
    name: str | tuple[str, ...] | None = None,
    axes: int = 2,
    skip_connections: bool = False,
) -> Exported:
    """Exports parameters and state of the Haiku module that computes the same.

    Args:
      spec: a plain ``LSTM``, ``ConvLSTM`` or ``ResetBeforeGRU`` (``hk.GRU``), an ``Elman`` with a ReLU, a tuple of such
        cells for ``hk.DeepRNN``, or a normalizer.
      params: its weights.
      stats: the running statistics of a ``BatchNorm``.
      name: the name of the module, or a tuple of names; None takes the names of the classes, such as ``"lstm"``,
        ``"lstm_1"``.
      axes: the number of axes of the data; the arrays of ``hk.BatchNorm`` have as many.
      skip_connections: whether several cells form a :func:`jaxnorm.skip_stack`.

    Returns:
      Parameters and state by module name; the state is empty except for ``hk.BatchNorm``.

    Raises:
      TypeError: params or stats do not match spec.
      ValueError: something has no counterpart in Haiku.

    Example:
      >>> import jax, jaxnorm
      >>> from jaxnorm import convert
      >>> cell = jaxnorm.lstm(2)
      >>> params, _ = convert.haiku.export(cell, cell.init(jax.random.key(0), 3))
      >>> params["lstm/linear"]["w"].shape, params["lstm/linear"]["b"].tolist()
      ((5, 8), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])

    Notes:
      We subtract from the bias the one that Haiku adds to the forget gate, which rounds the bias.
    """
    where = "convert.haiku.export"
    check_spec(where, spec)
    if isinstance(spec, tuple) and not isinstance(spec, Directions):
        each = deep.split(where, spec, params, skip_connections)
        names = name if isinstance(name, tuple) else deep.default_names([_CLASSES.get(type(s), "rnn") for s in spec])
        found: dict[str, dict[str, Host]] = {}
        for one, own, label in zip(spec, each, names, strict=True):
            found |= export(one, own, name=label)[0]
        return found, {}
    if isinstance(name, tuple):
        raise TypeError(f"{where}: name must be one name for one module, got {name!r}.")
    if isinstance(spec, LSTM):
        parts = cells.parts_of(where, spec, params)
        bias = cells.zeros_for_none(parts.bias, parts.kernel).copy()
        bias[gate_slice(FORGET, spec.hidden_features)] -= 1
        kernel = np.concatenate([parts.kernel, parts.recurrent])
        weights = {"w": layouts.kernel_to_columns(kernel, ORDER), "b": layouts.vector_to_order(bias, ORDER)}
        return {f"{name or _CLASSES[LSTM]}/linear": weights}, {}
    if isinstance(spec, ConvLSTM):
        return _export_conv(where, spec, params, name), {}
    if isinstance(spec, ResetBeforeGRU):
        parts = cells.turned(cells.parts_of(where, spec, params))  # in Haiku z renews the state
        bias = cells.zeros_for_none(parts.bias, parts.kernel)
        return {
            name or _CLASSES[ResetBeforeGRU]: {
                "w_i": layouts.kernel_to_columns(parts.kernel, GRU_ORDER),
                "w_h": layouts.kernel_to_columns(parts.recurrent, GRU_ORDER),
                "b": layouts.vector_to_order(bias, GRU_ORDER),
            }
        }, {}
    if isinstance(spec, Elman):
        cells.name_of(where, spec.activation, ("relu",))
        parts = cells.parts_of(where, spec, params)
        bias = cells.zeros_for_none(parts.bias, parts.kernel)
        name = name or _CLASSES[Elman]
        return {
            f"{name}/linear": {"w": parts.kernel, "b": bias},
            f"{name}/linear_1": {"w": parts.recurrent, "b": np.zeros_like(bias)},
        }, {}
    return _export_norm(where, spec, params, stats, name, axes)


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


def _export_conv(caller: str, cell: ConvLSTM, params: Any, name: str | None) -> dict[str, dict[str, Host]]:
    axes = len(cell.image_shape)
    if axes > 3:
        refuse(caller, f"images with {axes} axes", "Haiku has them with one, two and three.")
    kernel, recurrent, bias = conv_lstm.export_gated(caller, cell, params)
    name = name or f"conv{axes}_dlstm"
    return {
        f"{name}/input_to_hidden": {"w": kernel, "b": bias},
        f"{name}/hidden_to_hidden": {"w": recurrent, "b": np.zeros_like(bias)},
    }


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


def _export_norm(caller: str, spec: Any, params: Any, stats: Any, name: str | None, axes: int) -> Exported:
    if isinstance(spec, tuple):
        refuse(caller, "two directions", "they are two cores in Haiku, too. Export each by itself.")
    if isinstance(spec, norms.RMSNorm):
        norms.refuse_unlike(caller, spec, fraction=1.0, use_scale=True, use_bias=False)
    if isinstance(spec, norms.GroupNorm | norms.InstanceNorm):
        norms.refuse_unlike(caller, spec, feature_axis=-1)
    flat = norms.arrays_of(caller, spec, params, stats, NAMES)
    classes = {"LayerNorm": "layer_norm", "RMSNorm": "rms_norm", "GroupNorm": "group_norm",
               "InstanceNorm": "instance_norm", "BatchNorm": "batch_norm"}  # fmt: skip
    name = name or classes[type(spec).__name__]
    if not isinstance(spec, norms.BatchNorm):
        return {name: flat} if flat else {}, {}
    if spec.momentum is None:
        refuse(caller, "an exact average (momentum=None)", "hk.BatchNorm keeps decaying ones.")
    wide = {key: value.reshape((1,) * (axes - 1) + value.shape) for key, value in flat.items()}
    counter = np.asarray(int(stats.count), np.int32)
    state = {}
    for key, ema in (("mean", "mean_ema"), ("var", "var_ema")):
        average = wide.pop(key)
        hidden = average * np.asarray(1 - spec.momentum ** int(counter), average.dtype)
        state[f"{name}/~/{ema}"] = {"average": average, "hidden": hidden, "counter": counter}
    return {name: wide} if wide else {}, state


def _select(caller: str, params: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Selects the arrays of one module by name, including those of its inner linear layers."""
    roots = {module: re.sub(r"/(linear(_\d+)?|input_to_hidden|hidden_to_hidden)$", "", module) for module in params}
    if name is None and len(set(roots.values())) > 1:
        raise ValueError(
            f"{caller}: there are {listed(dict.fromkeys(roots.values()))}. Pass name=... with that of one module."
        )
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
