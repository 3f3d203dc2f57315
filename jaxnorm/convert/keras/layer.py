"""One layer of Keras, a recurrent one or a normalizer, from its options and its arrays."""

import re
from collections.abc import Mapping
from typing import Any

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.cells.gru import GRU
from jaxnorm.convert.keras.options import (
    CONV_LAYERS,
    activation_of,
    computed_in,
    describe_norm,
    functions_of,
    notes_of,
    unwrapped,
    wrapped,
)
from jaxnorm.convert.keras.renorm import load_renorm
from jaxnorm.convert.shared import cells, conv_lstm, layouts, norms
from jaxnorm.convert.shared.arrays import Arrays, Host
from jaxnorm.convert.shared.base import Imported, UndeterminedError, refuse, settle
from jaxnorm.engine.stacks import Directions
from jaxnorm.norms.base import Affine
from jaxnorm.zoo.cells.gru.reset_before_gru import ResetBeforeGRU
from jaxnorm.zoo.norms.example.scale_norm import ScaleNorm

ORDER = {4: "ifgo", 3: "zrn", 1: "h"}
CHOOSE = "Take it away: {{name.removeprefix({!r}): array for name, array in arrays.items()}}."
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
RECURRENT = ("RNN", *GATES, *(f"{name}Cell" for name in GATES))
CELL = ("kernel", "recurrent_kernel", "bias")
CONVOLUTIONS = {"strides": "strides", "dilation": "dilation_rate"}
NORM = norms.Names("gamma", "beta", "moving_mean", "moving_variance")
RMS = norms.Names("scale", "")


class KerasLayer(NamedTuple):
    """A layer: its class and options (None and {} where the source has arrays only), and its arrays by name."""

    kind: str | None
    config: Mapping[str, Any]
    arrays: Mapping[str, Host]
    image: tuple[int, ...] | None = None
    """The shape of an image, which only a live convolutional layer tells."""


def load_layer(caller: str, layer: KerasLayer, spec: Any) -> Imported:
    """Loads a recurrent layer or a normalizer."""
    kind, config, values, _ = layer
    arrays = Arrays(caller, values, choose=CHOOSE)
    if kind is None:
        arrays = _locate(arrays, spec)
        values = arrays.remaining()
    if kind == "Bidirectional" or "forward_layer/kernel" in arrays:
        found = _load_both(caller, values, config, spec)
    elif kind in CONV_LAYERS or (kind is None and "kernel" in arrays and len(arrays.shape("kernel")) > 2):
        found = _load_conv(arrays, config, layer.image, spec)
    elif kind in RECURRENT or (kind is None and ("kernel" in arrays or "cells/0/kernel" in arrays)):
        found = _load_recurrent(arrays, kind, config, spec)
    else:
        return _load_norm(arrays, kind, config, spec)
    return found._replace(notes=(*found.notes, *arrays.notes))


def _locate(arrays: Arrays, spec: Any) -> Arrays:
    """Returns the arrays of the only recurrent layer by longer names, such as those of ``variable.path``."""
    if isinstance(spec, norms.KINDS):
        return arrays
    kinds = {}
    for prefix in arrays.prefixes("recurrent_kernel"):
        place = re.sub(r"(forward_layer/|backward_layer/)?(cells/\d+/)?$", "", prefix)
        if len(arrays.shape(prefix + "recurrent_kernel")) > 2:
            kinds[place] = "a ConvLSTM"
            continue
        rows, columns = arrays.matrix(prefix + "recurrent_kernel", "(H, G H)")
        kinds[place] = {4: "an LSTM", 3: "a GRU", 1: "a SimpleRNN"}.get(columns // max(rows, 1), "a layer")
    return arrays if "" in kinds else arrays.only(kinds)


def _load_recurrent(arrays: Arrays, kind: str | None, config: Mapping[str, Any], spec: Any) -> Imported:
    """Loads a layer of one direction; a wrapper ``RNN`` may have several cells."""
    kind, config = unwrapped(kind, config)
    inner = config["cells"] if kind == "StackedRNNCells" else ()
    count = len(inner) or len({name.split("/")[1] for name in arrays.names if name.startswith("cells/")})
    if not count:
        return _load_cell(arrays, kind, config, spec)
    specs = spec if isinstance(spec, tuple) else (spec,) * count
    found = []
    for number, own in enumerate(specs):
        options = config | inner[number]["config"] if inner else {}
        own_kind = inner[number]["class_name"] if inner else None
        found.append(_load_cell(arrays.under(f"{arrays.prefix}cells/{number}/"), own_kind, options, own))
    notes = tuple(dict.fromkeys(note for each in found for note in each.notes if "prefix" not in note))
    return Imported(tuple(each.spec for each in found), tuple(each.params for each in found), (), notes)


def _load_both(caller: str, values: Mapping[str, Any], config: Mapping[str, Any], spec: Any) -> Imported:
    found = []
    notes: tuple[str, ...] = ()
    specs = spec if isinstance(spec, Directions) else Directions(spec, spec)
    for name, given in zip(("forward_layer", "backward_layer"), specs, strict=True):
        kind, own, notes = wrapped(caller, config, name)
        found.append(_load_recurrent(Arrays(caller, values, f"{name}/"), kind, own, given))
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
    notes, functions = notes_of(where, config), functions_of(where, config, spec)
    if gates == 3:
        if _resets_before(arrays, config, spec):
            if "bias" in arrays:
                vector = arrays.take("bias", (columns,), "(3 H,)")
                parts = parts._replace(bias=layouts.vector_from_order(vector, order))
            arrays.finish()
            return Imported(*cells.reset_before_gru(where, parts, spec, functions=functions), (), notes)
        if "bias" in arrays:
            both = arrays.take("bias", (2, columns), "(2, 3 H)")
            bias, recurrent_bias = (layouts.vector_from_order(each, order) for each in both)
            parts = parts._replace(bias=bias, recurrent_bias=recurrent_bias)
        arrays.finish()
        return Imported(*cells.gru(where, parts, spec, functions), (), notes)
    if "bias" in arrays:
        vector = arrays.take("bias", (columns,), f"({gates} H,)")
        parts = parts._replace(bias=layouts.vector_from_order(vector, order))
    arrays.finish()
    if gates == 4:
        return Imported(*cells.lstm(where, parts, spec, functions), (), notes)
    activation = activation_of(where, config, spec, hidden)
    return Imported(*cells.elman(where, parts, activation, spec), (), notes)


def _resets_before(arrays: Arrays, config: Mapping[str, Any], spec: Any) -> bool:
    """Whether a GRU has reset_after=False: its options decide, else its bias, else the spec."""
    if config:
        return not config.get("reset_after", True)
    if "bias" in arrays:
        return len(arrays.shape("bias")) == 1
    if not isinstance(spec, GRU | ResetBeforeGRU):
        raise UndeterminedError(
            f"{arrays.where}: the arrays of a GRU without bias do not tell reset_after. Pass spec=jaxnorm.GRU(...), or "
            "jaxnorm.zoo.ResetBeforeGRU(...) for reset_after=False, or the live layer."
        )
    return isinstance(spec, ResetBeforeGRU)


def _load_conv(arrays: Arrays, config: Mapping[str, Any], image: tuple[int, ...] | None, spec: Any) -> Imported:
    if config.get("data_format") == "channels_first":
        refuse(arrays.where, "data_format='channels_first'", "the channels are on the last axis here.")
    notes = notes_of(arrays.where, config)
    w, u, bias = conv_lstm.take(arrays, *CELL[:2], CELL[2:], ORDER[4])
    options: dict[str, Any] = {**functions_of(arrays.where, config, spec)}
    if image is not None:
        options["image_shape"] = image
    if config:
        options |= {ours: tuple(config[theirs]) for ours, theirs in CONVOLUTIONS.items()}
        options["padding"] = config["padding"].upper()
    return conv_lstm.load(arrays.where, w, u, bias, options, spec)._replace(notes=notes)


def _load_norm(arrays: Arrays, kind: str | None, config: Mapping[str, Any], spec: Any) -> Imported:
    notes: tuple[str, ...] = ()
    if kind == "BatchNormalization" and config.get("renorm"):
        return load_renorm(arrays, config, spec, tuple(computed_in(config)))
    if kind is not None:
        made, notes = describe_norm(arrays.where, kind, config)
        notes += tuple(computed_in(config))
        spec = settle(arrays.where, made, spec)
    if isinstance(spec, ScaleNorm) and not spec.use_scale and not spec.use_bias:
        arrays.finish()
        return Imported(spec, Affine(None, None), (), notes)
    return norms.load(arrays, spec, RMS if isinstance(spec, norms.RMSNorm) else NORM, notes=notes)
