"""Exports cores and normalizers as parameters and state of Haiku."""

from typing import Any, TypeAlias

import numpy as np

from jaxnorm.cells.elman import Elman
from jaxnorm.cells.lstm import FORGET, LSTM
from jaxnorm.cells.preactivation.layout import gate_slice
from jaxnorm.convert.haiku import deep
from jaxnorm.convert.haiku.load import GRU_ORDER, NAMES, ORDER
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Host
from jaxnorm.convert.shared.base import check_spec, refuse
from jaxnorm.engine.stacks import Directions
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU

_CLASSES: dict[Any, str] = {LSTM: "lstm", ResetBeforeGRU: "gru", Elman: "vanilla_rnn"}
Exported: TypeAlias = tuple[dict[str, dict[str, Host]], dict[str, dict[str, Host]]]
"""Parameters and state by module name."""


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
        cells.check_named(where, spec, ("relu",))
        parts = cells.parts_of(where, spec, params)
        bias = cells.zeros_for_none(parts.bias, parts.kernel)
        name = name or _CLASSES[Elman]
        return {
            f"{name}/linear": {"w": parts.kernel, "b": bias},
            f"{name}/linear_1": {"w": parts.recurrent, "b": np.zeros_like(bias)},
        }, {}
    return _export_norm(where, spec, params, stats, name, axes)


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


def _export_norm(caller: str, spec: Any, params: Any, stats: Any, name: str | None, axes: int) -> Exported:
    if isinstance(spec, tuple):
        refuse(caller, "two directions", "they are two cores in Haiku, too. Export each by itself.")
    if isinstance(spec, norms.RMSNorm):
        norms.refuse_unlike(caller, spec, fraction=1.0, use_scale=True, use_bias=False)
    if isinstance(spec, norms.GroupNorm | norms.InstanceNorm):
        norms.refuse_unlike(caller, spec, feature_axis=-1)
    if isinstance(spec, norms.BatchNorm):
        norms.refuse_unlike(caller, spec, axis=None, feature_axis=None)
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
