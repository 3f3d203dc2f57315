"""Interprets the options of a Keras layer, from ``get_config`` or from the configuration in a file."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.cells.elman import Elman
from jaxnorm.convert.shared.base import refuse
from jaxnorm.convert.shared.cells import activation_named
from jaxnorm.norms.batch_norm import BatchNorm
from jaxnorm.norms.group_norm import GroupNorm
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm


def notes_of(caller: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Refuses options that change the function of a recurrent layer, and notes those that act only in training."""
    if not config:
        return ()
    units = "recurrent_activation" in config
    for name, only in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        if units and config.get(name, only) != only:
            refuse(caller, f"{name}={config[name]!r}", f"the gates here know {only!r} only.")
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


def activation_of(caller: str, config: Mapping[str, Any], spec: Any, hidden: int) -> Callable[..., Any]:
    """Returns the nonlinearity of a SimpleRNN."""
    if config:
        return activation_named(caller, str(config["activation"]))
    if not isinstance(spec, Elman):
        raise ValueError(
            f"{caller}: the names of arrays do not tell the nonlinearity of a SimpleRNN. Pass "
            f"spec=jaxnorm.Elman({hidden}, activation=jnp.tanh), or another, or the live layer."
        )
    return spec.activation


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
    if kind == "GroupNormalization":
        if config["groups"] < 1:
            refuse(caller, f"groups={config['groups']} before the layer is built", "build it, and save it again.")
        return GroupNorm(config["groups"], feature_axis=axis, epsilon=epsilon, **affine), ()
    if kind == "BatchNormalization":
        if config.get("renorm"):
            refuse(caller, "renorm=True", "batch renormalization there has statistics of its own.")
        notes: tuple[str, ...] = () if axis == -1 else (f"axis={axis}: the features are on the last axis here",)
        if config.get("synchronized"):
            notes += ("synchronized=True: say over which devices by axis_name",)
        return BatchNorm(epsilon=epsilon, momentum=config["momentum"], **affine), notes
    raise TypeError(
        f"{caller}: {kind} is no layer that has a counterpart. Pass an LSTM, GRU, SimpleRNN, Bidirectional, "
        "ConvLSTM1D, ConvLSTM2D, ConvLSTM3D, LayerNormalization, RMSNormalization, GroupNormalization or "
        "BatchNormalization."
    )


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) else axis
