"""Interprets the options of a Keras layer, from ``get_config`` or from the configuration in a file."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.cells.elman import Elman
from jaxnorm.convert.shared import cells
from jaxnorm.convert.shared.base import UndeterminedError, refuse
from jaxnorm.norms.batch_norm import BatchNorm
from jaxnorm.norms.group_norm import GroupNorm
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm
from jaxnorm.zoo.norms.example.scale_norm import ScaleNorm

LAYERS = ("LSTM", "GRU", "SimpleRNN")
CONV_LAYERS = ("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
CELLS = tuple(f"{name}Cell" for name in LAYERS)
NORMS = (
    "LayerNormalization", "RMSNormalization", "GroupNormalization", "BatchNormalization", "UnitNormalization",
)  # fmt: skip
UNIT_EPSILON = 1e-12
"""The smallest norm by which a UnitNormalization divides."""


def notes_of(caller: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Refuses options that change the function of a recurrent layer, and notes those that act only in training."""
    if not config:
        return ()
    if config.get("go_backwards"):
        refuse(caller, "go_backwards=True", "set it to False, run with reverse=True, and flip the outputs along time.")
    notes = ["sequences are batch first: pass time_axis=1"] if "return_sequences" in config else []
    if config.get("return_sequences") is False:
        notes.append("return_sequences=False: it puts out carry.h, the last output, only")
    if config.get("stateful"):
        notes.append("stateful=True: hand the carry on yourself")
    notes += computed_in(config)
    for name in ("dropout", "recurrent_dropout"):
        if config.get(name):
            notes.append(f"{name}={config[name]} acts in training only and is not part of the cell")
    return tuple(notes)


def computed_in(config: Mapping[str, Any]) -> list[str]:
    """Notes if a layer computes in a dtype other than that of its weights."""
    policy = config.get("dtype")
    name = policy["config"].get("name", "") if isinstance(policy, dict) else str(policy)
    if not name.startswith("mixed_"):
        return []
    dtype = name.removeprefix("mixed_")
    return [f"dtype policy {name}: pass dtype={dtype!r} to a cell, or inputs of this dtype to a normalizer"]


def wrapped(caller: str, config: Mapping[str, Any], name: str) -> tuple[str | None, dict[str, Any], tuple[str, ...]]:
    """Returns kind and options of one direction of a Bidirectional; ``go_backwards`` is normal for the second one."""
    if not config:
        return None, {}, ()
    inner = config.get("layer" if name == "forward_layer" else "backward_layer") or config["layer"]
    options = dict(inner["config"])
    if name == "backward_layer":
        options["go_backwards"] = False
    mode = config.get("merge_mode", "concat")
    notes = () if mode == "concat" else (f"merge_mode={mode!r}: pass merge=..., a function of both outputs",)
    return inner["class_name"], options, notes


def functions_of(caller: str, config: Mapping[str, Any], spec: Any) -> Mapping[str, Callable[..., Any]]:
    """Returns the nonlinearities of a layer with gates: its own if it tells them, else those of the spec."""
    if "recurrent_activation" not in config:
        return cells.functions_of(spec)
    names = {"gate_fn": "recurrent_activation", "activation_fn": "activation"}
    return {field: cells.activation_named(caller, str(config[name])) for field, name in names.items()}


def unwrapped(kind: str | None, config: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Returns kind and options of the cell in a wrapper ``RNN``, with those of the wrapper."""
    if kind != "RNN":
        return kind, config
    outer = {name: config[name] for name in ("return_sequences", "go_backwards", "stateful") if name in config}
    return config["cell"]["class_name"], outer | config["cell"]["config"]


def has_counterpart(kind: str | None, config: Mapping[str, Any]) -> bool:
    """Whether a layer of this class is a recurrent layer or a normalizer, by its options if it is a wrapper."""
    if kind == "Bidirectional":
        return has_counterpart(config["layer"]["class_name"], config["layer"]["config"])
    if kind == "RNN":
        cell = config["cell"]
        inner = cell["config"]["cells"] if cell["class_name"] == "StackedRNNCells" else [cell]
        return all(each["class_name"] in CELLS for each in inner)
    return kind in (*LAYERS, *CONV_LAYERS, *CELLS, *NORMS)


def activation_of(caller: str, config: Mapping[str, Any], spec: Any, hidden: int) -> Callable[..., Any]:
    """Returns the nonlinearity of a SimpleRNN."""
    if config:
        return cells.activation_named(caller, str(config["activation"]))
    if not isinstance(spec, Elman):
        raise UndeterminedError(
            f"{caller}: the names of arrays do not tell the nonlinearity of a SimpleRNN. Pass "
            f"spec=jaxnorm.Elman({hidden}, activation_fn=jnp.tanh), or another, or the live layer."
        )
    return spec.activation_fn


def describe_norm(caller: str, kind: str, config: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Makes the spec of a normalizer."""
    axis, epsilon = config.get("axis", -1), config.get("epsilon", 1e-3)
    affine: dict[str, Any] = {"use_scale": config.get("scale", True), "use_bias": config.get("center", True)}
    if kind == "LayerNormalization":
        if config.get("rms_scaling"):
            refuse(caller, "rms_scaling=True", "what it computes depends on the release of Keras.")
        return LayerNorm(_axes(axis), epsilon=epsilon, **affine), ()
    if kind == "RMSNormalization":
        return RMSNorm(_axes(axis), epsilon=epsilon), ()
    if kind == "UnitNormalization":
        return ScaleNorm(_axes(axis), epsilon=UNIT_EPSILON, use_scale=False), ()
    if kind == "GroupNormalization":
        if config["groups"] < 1:
            refuse(caller, f"groups={config['groups']} before the layer is built", "build it, and save it again.")
        return GroupNorm(config["groups"], feature_axis=axis, epsilon=epsilon, **affine), ()
    if kind == "BatchNormalization":
        notes = ("synchronized=True: say over which devices by axis_name",) if config.get("synchronized") else ()
        kept = {} if axis == -1 else {"feature_axis": axis}
        return BatchNorm(epsilon=epsilon, momentum=config["momentum"], **kept, **affine), notes
    raise TypeError(
        f"{caller}: {kind} is no layer that has a counterpart. Pass an LSTM, GRU, SimpleRNN, Bidirectional, "
        "RNN around their cells, ConvLSTM1D, ConvLSTM2D, ConvLSTM3D, LayerNormalization, RMSNormalization, "
        "GroupNormalization, BatchNormalization or UnitNormalization."
    )


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis
