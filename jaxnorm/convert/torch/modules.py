"""Interprets the hyper-parameters of live PyTorch modules; no other file imports PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm.convert.shared.base import refuse
from jaxnorm.convert.shared.norms import FEATURES_LAST
from jaxnorm.norms.batch_norm import BatchNorm
from jaxnorm.norms.group_norm import GroupNorm
from jaxnorm.norms.instance_norm import InstanceNorm
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm

_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The distance from one to the next larger number: the default epsilon of PyTorch's RMSNorm."""


class Described(NamedTuple):
    """The spec of a normalizer, or the nonlinearity of a recurrent layer, and notes."""

    spec: Any = None
    activation: Callable[..., Any] = jnp.tanh
    notes: tuple[str, ...] = ()


def modules_of(source: Any) -> dict[str, Any]:
    """Returns the live modules by path; none for a state dict or a file."""
    if isinstance(source, Mapping) or not hasattr(source, "named_modules"):
        return {}
    named = source.named_modules(remove_duplicate=False)
    return {path: module for path, module in named if "parametrizations" not in path.split(".")}


def class_name(module: Any) -> str:
    """Returns the name of the class of a module, without the one that a parametrization makes of it."""
    kind = type(module)
    return kind.__mro__[1].__name__ if kind.__module__ == "torch.nn.utils.parametrize" else kind.__name__


def describe(caller: str, module: Any) -> Described | None:
    """Describes a module of a kind that has a counterpart; None for another."""
    from torch import nn

    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _recurrent(caller, module)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return _row(module)
    if isinstance(module, nn.GroupNorm):
        return Described(GroupNorm(module.num_groups, epsilon=module.eps, **_affine(module)), notes=(FEATURES_LAST,))
    if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        if module.track_running_stats:
            refuse(caller, repr(module), "in evaluation it is a batch normalization with its running statistics.")
        return Described(InstanceNorm(epsilon=module.eps, **_affine(module)), notes=(FEATURES_LAST,))
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _batch(caller, module)
    return None


def _recurrent(caller: str, module: Any) -> Described:
    notes = []
    if getattr(module, "batch_first", False):
        notes.append("batch_first=True: pass time_axis=1")
    if getattr(module, "dropout", 0.0) and getattr(module, "num_layers", 1) > 1:
        notes.append(f"dropout={module.dropout} between layers acts in training only and is not part of the cells")
    name = getattr(module, "nonlinearity", "tanh")
    return Described(activation={"tanh": jnp.tanh, "relu": jax.nn.relu}[name], notes=tuple(notes))


def _affine(module: Any) -> dict[str, Any]:
    """Tells which weights a normalizer has; each can be absent on its own (``bias=False``)."""
    return {
        name: getattr(module, own, None) is not None for name, own in (("use_scale", "weight"), ("use_bias", "bias"))
    }


def _row(module: Any) -> Described:
    axes = len(module.normalized_shape)
    axis = -1 if axes == 1 else tuple(range(-axes, 0))
    has = _affine(module)
    if module.eps is not None:
        kind = LayerNorm if hasattr(module, "bias") else RMSNorm
        return Described(kind(axis, epsilon=module.eps, **has))
    dtype = "float32" if module.weight is None else str(module.weight.dtype).removeprefix("torch.")
    note = f"eps=None: the epsilon is that of inputs in {dtype}; PyTorch takes another for another dtype"
    return Described(RMSNorm(axis, epsilon=_EPSILON[dtype], **has), notes=(note,))


def _batch(caller: str, module: Any) -> Described:
    if not module.track_running_stats:
        refuse(caller, repr(module), "it keeps no running statistics. Use BatchNorm with Affine weights, stats=None.")
    if module.momentum is None:
        refuse(
            caller,
            repr(module),
            "its cumulative average weighs batches and not elements. Give module.momentum a number; inference stays.",
        )
    notes = [FEATURES_LAST]
    if type(module).__name__ == "SyncBatchNorm":
        notes.append("it spans devices: say over which by axis_name")
    momentum = 1.0 - module.momentum
    spec = BatchNorm(epsilon=module.eps, momentum=momentum, ddof=1, **_affine(module))
    return Described(spec, notes=tuple(notes))
