"""Converts weights of Keras 3: recurrent layers and their cells, Bidirectional, normalizers; live layers and files.

Live layers describe themselves, so even they need no import of Keras.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnorm._base import objects
from jaxnorm.cells.elman import Elman
from jaxnorm.cells.gru import GRU
from jaxnorm.cells.lstm import LSTM
from jaxnorm.convert._keras_files import KerasLayer, read_keras
from jaxnorm.convert._keras_layers import activation_of, computed_in, describe_norm, notes_of, wrapped
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, check_spec, refuse, settle
from jaxnorm.convert.shared.files import caller, is_path, reading
from jaxnorm.engine.stacks import Directions
from jaxnorm.zoo.cells.convolution.conv_lstm import ConvLSTM
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU

ORDER = {4: "ifgo", 3: "zrn", 1: "h"}
CHOOSE = "Take it away: {{name.removeprefix({!r}): array for name, array in arrays.items()}}."
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
CELL = ("kernel", "recurrent_kernel", "bias")
KERAS_CONV = {"strides": "strides", "dilation": "dilation_rate"}
NORM = norms.Names("gamma", "beta", "moving_mean", "moving_variance")
RMS = norms.Names("scale", "")
ACTIVATIONS = ("tanh", "relu", "sigmoid", "elu", "softplus")


def load(source: Any, spec: Any = None, *, layer: str | None = None) -> Imported:
    """Loads weights of a recurrent layer or a normalizer of Keras.

    Args:
      source: a live, built layer (``LSTM``, ``GRU``, ``SimpleRNN``, their cells, ``Bidirectional`` around them,
        ``ConvLSTM1D``, ``ConvLSTM2D``, ``ConvLSTM3D``, ``LayerNormalization``, ``RMSNormalization``,
        ``GroupNormalization``, ``BatchNormalization``); the path of a ``.keras`` or ``.weights.h5`` file; or arrays by
        name (``kernel, recurrent_kernel, bias``, below ``forward_layer/`` and ``backward_layer/`` for two directions;
        ``gamma, beta, moving_mean, moving_variance``; ``scale``).
      spec: options that the source lacks. A ``.keras`` file and a live layer have all of them; for other sources, pass
        the spec of a normalizer, and for ``SimpleRNN`` an ``Elman`` with its activation. Only a live layer tells the
        shape of an image; for other sources of a convolutional LSTM pass a ``ConvLSTM``.
      layer: the name of the layer in the model, or its path in the file.

    Returns:
      Imported(spec, params, stats, notes); ``Directions`` of them for ``Bidirectional``.

    Raises:
      TypeError: an array does not have a floating-point dtype that JAX supports.
      ValueError: an array is missing, unknown or has another shape, or something has no counterpart; or a file is
        damaged, truncated, of another kind or a legacy ``.h5``.
      OSError: there is no such file, it is a folder, or it is not readable.

    Example:
      >>> import numpy as np, jaxnorm
      >>> from jaxnorm import convert
      >>> found = convert.keras.load({"gamma": np.ones(4, "f")}, jaxnorm.LayerNorm(epsilon=1e-3, use_bias=False))
      >>> found.params.scale.tolist()
      [1.0, 1.0, 1.0, 1.0]

    Notes:
      Sequences are batch first in Keras: pass ``time_axis=1``. Keras does not count the data in its running
      statistics; we set their count to 1.
    """
    where = caller("convert.keras.load", source)
    if not is_path(source):
        return _load(where, source, spec, layer)
    with reading(where, source, ".keras" if os.fspath(source).endswith(".keras") else ".weights.h5"):
        return _load(where, source, spec, layer)


def _load(caller: str, source: Any, spec: Any, layer: str | None) -> Imported:
    if is_path(source):
        kind, config, values = _numbered(caller, read_keras(caller, source, layer), spec)
    elif layer is not None:
        raise ValueError(f"{caller}: layer={layer!r} chooses a layer of a file; here there is no file. Leave it out.")
    elif isinstance(source, Mapping):
        kind, config, values = None, {}, dict(source)
    elif hasattr(source, "get_config") and hasattr(source, "weights"):
        kind, config, values = type(source).__name__, source.get_config(), _live(source)
    else:
        raise TypeError(
            f"{caller}: source must be a built layer, arrays by name or a path, got {objects.describe(source)}."
        )
    arrays = Arrays(caller, values, choose=CHOOSE)
    if kind is None:
        _refuse_prefixes(arrays)
    if kind == "Bidirectional" or "forward_layer/kernel" in arrays:
        return _load_both(caller, values, config, spec)
    if kind in CONV_KINDS or (kind is None and "kernel" in arrays and len(arrays.shape("kernel")) > 2):
        return _load_conv(arrays, config, getattr(getattr(source, "cell", None), "spatial_dims", None), spec)
    if (kind is None and "kernel" in arrays) or kind in {"LSTM", "GRU", "SimpleRNN"} | CELL_KINDS:
        return _load_cell(arrays, kind, config, spec)
    return _load_norm(arrays, kind, config, spec)


CELL_KINDS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}
CONV_KINDS = {"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}


def export(spec: Any, params: Any, stats: Any = ()) -> dict[str, Host]:
    """Exports the arrays, keyed by name, of the Keras layer that computes the same.

    Args:
      spec: a plain ``LSTM``, ``GRU``, ``ResetBeforeGRU`` (``reset_after=False``), ``ConvLSTM`` or ``Elman``,
        ``Directions`` of two of them, or a normalizer.
      params: the weights, in the same structure.
      stats: the running statistics of a ``BatchNorm``.

    Returns:
      Arrays in the order of the layer: ``layer.set_weights(list(arrays.values()))``.

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
        norms.refuse_unlike(where, spec, fraction=1.0, use_scale=True, use_bias=False)
        return norms.arrays_of(where, spec, params, stats, RMS)
    if isinstance(spec, norms.InstanceNorm | norms.GroupNorm):
        norms.refuse_unlike(where, spec, axis=None)
    return norms.arrays_of(where, spec, params, stats, NORM)


def _refuse_prefixes(arrays: Arrays) -> None:
    """Refuses arrays with longer names, such as those of ``variable.path``."""
    kinds = {}
    for prefix in arrays.prefixes("recurrent_kernel"):
        if prefix not in ("", "forward_layer/", "backward_layer/"):
            if len(arrays.shape(prefix + "recurrent_kernel")) > 2:
                kinds[prefix] = "a ConvLSTM"
                continue
            rows, columns = arrays.matrix(prefix + "recurrent_kernel", "(H, G H)")
            kinds[prefix] = {4: "an LSTM", 3: "a GRU", 1: "a SimpleRNN"}.get(columns // max(rows, 1), "a layer")
    if kinds:
        arrays.point_to(kinds)


def _export_cell(caller: str, cell: Any, params: Any) -> dict[str, Host]:
    kernel, recurrent, bias, recurrent_bias, _ = cells.parts_of(caller, cell, params)
    if isinstance(cell, Elman):
        cells.name_of(caller, cell.activation, ACTIVATIONS)
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


def _load_both(caller: str, values: Mapping[str, Any], config: Mapping[str, Any], spec: Any) -> Imported:
    found = []
    notes: tuple[str, ...] = ()
    specs = spec if isinstance(spec, Directions) else Directions(spec, spec)
    for name, given in zip(("forward_layer", "backward_layer"), specs, strict=True):
        kind, own, notes = wrapped(caller, config, name)
        found.append(_load_cell(Arrays(caller, values, f"{name}/"), kind, own, given))
    other = [name for name in values if not name.startswith(("forward_layer/", "backward_layer/"))]
    if other:
        raise ValueError(f"{caller}: {', '.join(other)} belong to neither direction.")
    return Imported(
        Directions(*(each.spec for each in found)),
        Directions(*(each.params for each in found)),
        (),
        tuple(dict.fromkeys((*found[0].notes, *notes))),
    )


def _load_cell(arrays: Arrays, kind: str | None, config: Mapping[str, Any], spec: Any) -> Imported:
    where = arrays.where
    has_bias = config.get("use_bias", True)
    arrays.expect(CELL if config and has_bias else CELL[:2], () if config else CELL[2:])
    hidden, columns = arrays.matrix("recurrent_kernel", "(H, G H)")
    gates = columns // hidden
    if gates * hidden != columns or gates not in ORDER:
        raise ValueError(
            f"{where}: {arrays.prefix}recurrent_kernel must have shape (H, 4 H) of an LSTM, (H, 3 H) of a GRU or (H, H)"
            f" of a SimpleRNN, got {(hidden, columns)}."
        )
    told = (GATES.get((kind or "").removesuffix("Cell"), gates), config.get("units", hidden))
    if told != (gates, hidden):
        raise ValueError(
            f"{where}: the configuration is that of {kind} with {config.get('units')} units, the arrays are of "
            f"{gates} gates of {hidden}. Do both belong together?"
        )
    order = ORDER[gates]
    inputs, _ = arrays.matrix("kernel", "(I, G H)")
    kernel, recurrent = (
        layouts.kernel_from_columns(arrays.take(name, (rows, columns), symbols), order)
        for name, rows, symbols in (
            ("kernel", inputs, f"(I, {gates} H)"),
            ("recurrent_kernel", hidden, f"(H, {gates} H)"),
        )
    )
    parts = cells.Parts(kernel, recurrent)
    notes = notes_of(where, config)
    if gates == 3:
        if _resets_before(arrays, config, spec):
            if "bias" in arrays:
                vector = arrays.take("bias", (columns,), "(3 H,)")
                parts = parts._replace(bias=layouts.vector_from_order(vector, order))
            arrays.finish()
            return Imported(*cells.reset_before_gru(where, parts, spec), (), notes)
        if "bias" in arrays:
            both = arrays.take("bias", (2, columns), "(2, 3 H)")
            bias, recurrent_bias = (layouts.vector_from_order(each, order) for each in both)
            parts = parts._replace(bias=bias, recurrent_bias=recurrent_bias)
        arrays.finish()
        return Imported(*cells.gru(where, parts, spec), (), notes)
    if "bias" in arrays:
        vector = arrays.take("bias", (columns,), f"({gates} H,)")
        parts = parts._replace(bias=layouts.vector_from_order(vector, order))
    arrays.finish()
    if gates == 4:
        return Imported(*cells.lstm(where, parts, spec), (), notes)
    activation = activation_of(where, config, spec, hidden)
    return Imported(*cells.elman(where, parts, activation, spec), (), notes)


def _load_conv(arrays: Arrays, config: Mapping[str, Any], image: Any, spec: Any) -> Imported:
    if config.get("data_format") == "channels_first":
        refuse(arrays.where, "data_format='channels_first'", "the channels are on the last axis here.")
    notes = notes_of(arrays.where, config)
    w, u, bias = conv_lstm.take(arrays, *CELL[:2], CELL[2:], ORDER[4])
    options: dict[str, Any] = {} if image is None else {"image_shape": tuple(image)}
    if config:
        options |= {ours: tuple(config[theirs]) for ours, theirs in KERAS_CONV.items()}
        options["padding"] = config["padding"].upper()
    return conv_lstm.load(arrays.where, w, u, bias, options, spec)._replace(notes=notes)


def _export_conv(caller: str, cell: ConvLSTM, params: Any) -> dict[str, Host]:
    if len(cell.image_shape) > 3:
        refuse(caller, f"images with {len(cell.image_shape)} axes", "Keras has them with one, two and three.")
    parts = cells.parts_of(caller, cell, params)
    found = {"kernel": parts.kernel, "recurrent_kernel": parts.recurrent}
    return found if parts.bias is None else {**found, "bias": parts.bias}


def _resets_before(arrays: Arrays, config: Mapping[str, Any], spec: Any) -> bool:
    """Whether a GRU has reset_after=False: its options decide, else its bias, else the spec."""
    if config:
        return not config.get("reset_after", True)
    if "bias" in arrays:
        return len(arrays.shape("bias")) == 1
    if not isinstance(spec, GRU | ResetBeforeGRU):
        raise ValueError(
            f"{arrays.where}: the arrays of a GRU without bias do not tell reset_after. Pass spec=jaxnorm.GRU(...), or "
            "jaxnorm.zoo.ResetBeforeGRU(...) for reset_after=False, or the live layer."
        )
    return isinstance(spec, ResetBeforeGRU)


def _load_norm(arrays: Arrays, kind: str | None, config: Mapping[str, Any], spec: Any) -> Imported:
    notes: tuple[str, ...] = ()
    if kind is not None:
        made, notes = describe_norm(arrays.where, kind, config)
        notes += tuple(computed_in(config))
        spec = settle(arrays.where, made, spec)
    return norms.load(arrays, spec, RMS if isinstance(spec, norms.RMSNorm) else NORM, notes=notes)


def _live(layer: Any) -> dict[str, Host]:
    """Returns the weights of a live layer, keyed by name."""
    if type(layer).__name__ == "Bidirectional":
        parts = {name: _live(getattr(layer, name)) for name in ("forward_layer", "backward_layer")}
        return {f"{name}/{key}": value for name, values in parts.items() for key, value in values.items()}
    if not layer.built:
        raise ValueError(
            "convert.keras.load: the layer has no weights yet. Build it first: layer.build((batch, steps, features))."
        )
    return {variable.name: np.asarray(variable) for variable in layer.weights}


def _numbered(caller: str, layer: KerasLayer, spec: Any) -> tuple[str | None, dict[str, Any], dict[str, Host]]:
    """Names the arrays of a layer from a file; files number them in the order in which the layer created them."""
    kept = {path: array for path, array in layer.arrays.items() if "seed_generator" not in path.split("/")}
    groups: dict[str, list[str]] = {}
    for path in sorted(kept, key=lambda path: (path.rpartition("/")[0], int(path.rpartition("/")[2]))):
        groups.setdefault(path.rpartition("/")[0], []).append(path)
    found: dict[str, Host] = {}
    for group, paths in groups.items():
        numbers = [int(path.rpartition("/")[2]) for path in paths]
        if numbers != list(range(len(paths))):
            raise ValueError(f"{caller} is damaged: {group} has the variables {numbers}, which are not all.")
        owner = "/".join(part for part in group.split("/") if part not in ("vars", "cell"))
        names = _names(layer, spec, group, [kept[path] for path in paths])
        for name, path in zip(names, paths, strict=True):
            found[f"{owner}/{name}" if owner else name] = kept[path]
    return layer.kind, layer.config, found


def _names(layer: KerasLayer, spec: Any, group: str, arrays: list[Host]) -> tuple[str, ...]:
    """Returns the names of the arrays of one group; a file of weights has less information than options or a spec."""
    if arrays[0].ndim == 2 or "cell" in group.split("/"):
        names: tuple[str, ...] = CELL
    elif layer.kind == "RMSNormalization" or isinstance(spec, norms.RMSNorm):
        names = ("scale",)
    else:
        used = (getattr(spec, "use_scale", True), getattr(spec, "use_bias", True))
        used = (layer.config.get("scale", used[0]), layer.config.get("center", used[1]))
        names = tuple(name for name, has in zip(NORM[:2], used, strict=True) if has) + tuple(NORM[2:])
    return (*names, *(f"variable {number}" for number in range(len(names), len(arrays))))[: len(arrays)]
