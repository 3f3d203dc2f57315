"""The normalizers of each library as functions of data, and of a mask where there is one. None: it does not have it."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp

import jaxnorm as jn
from benchmarks.accuracy.layouts import Layout

Norm: TypeAlias = Callable[[Any, Any], Any]
"""Of data and a mask, which is None without one."""

AXIS_NAME = "members"


def ours(layout: Layout, shape: tuple[int, ...], epsilon: float, axis_name: str | None = None) -> Norm:
    """Jaxnorm."""
    groups = layout.columns
    functions: dict[str, Norm] = {
        "layer_norm": lambda x, w: jn.layer_norm(x, epsilon=epsilon, where=w, axis_name=axis_name),
        "rms_norm": lambda x, w: jn.rms_norm(x, epsilon=epsilon, where=w, axis_name=axis_name),
        "group_norm": lambda x, w: jn.group_norm(x, num_groups=groups, epsilon=epsilon, where=w, axis_name=axis_name),
        "instance_norm": lambda x, w: jn.instance_norm(x, epsilon=epsilon, where=w, axis_name=axis_name),
        "batch_norm": lambda x, w: jn.batch_norm(x, epsilon=epsilon, where=w, axis_name=axis_name)[0],
    }
    return functions[layout.name]


def flax(fast: bool) -> Callable[..., Norm | None]:
    """Flax linen, with its one-pass variance or its two-pass one."""
    from flax import linen

    def make(layout: Layout, shape: tuple[int, ...], epsilon: float, axis_name: str | None = None) -> Norm | None:
        plain: dict[str, Any] = {
            "epsilon": epsilon,
            "use_scale": False,
            "use_bias": False,
            "use_fast_variance": fast,
            "axis_name": axis_name,
        }
        rms = {key: value for key, value in plain.items() if key != "use_bias"}
        modules: dict[str, Callable[[], Any]] = {
            "layer_norm": lambda: linen.LayerNorm(**plain),
            "rms_norm": lambda: linen.RMSNorm(**rms),
            "group_norm": lambda: linen.GroupNorm(layout.columns, **plain),
            "instance_norm": lambda: linen.InstanceNorm(**plain),
            "batch_norm": lambda: linen.BatchNorm(use_running_average=False, **plain),
        }
        module = modules[layout.name]()
        if layout.name != "batch_norm":
            return lambda x, w: module.apply({}, x, mask=w)
        stats = {"batch_stats": {"mean": jnp.zeros(shape[-1]), "var": jnp.ones(shape[-1])}}
        return lambda x, w: module.apply(stats, x, mask=w, mutable=["batch_stats"])[0]

    return make


def standardize(layout: Layout, shape: tuple[int, ...], epsilon: float, axis_name: str | None = None) -> Norm | None:
    """``jax.nn.standardize``, where it computes the same."""
    axes = {"layer_norm": -1, "batch_norm": 0, "instance_norm": 1}
    if layout.name not in axes or axis_name is not None:
        return None
    return lambda x, w: jax.nn.standardize(x, axis=axes[layout.name], epsilon=epsilon, where=w)


def keras(layout: Layout, shape: tuple[int, ...], epsilon: float, axis_name: str | None = None) -> Norm | None:
    """Keras on JAX, without scale and bias."""
    if axis_name is not None:
        return None
    from keras import layers

    plain: dict[str, Any] = {"epsilon": epsilon, "center": False, "scale": False}
    make: dict[str, Callable[[], Any]] = {
        "layer_norm": lambda: layers.LayerNormalization(**plain),
        "group_norm": lambda: layers.GroupNormalization(layout.columns, **plain),
        "instance_norm": lambda: layers.GroupNormalization(-1, **plain),
        "batch_norm": lambda: layers.BatchNormalization(**plain),
    }
    if layout.name not in make:
        return None
    layer = make[layout.name]()
    layer.build(shape)

    def apply(x: Any, w: Any) -> Any:
        weights = ([v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables])
        return layer.stateless_call(*weights, x, **({"training": True} if layout.name == "batch_norm" else {}))[0]

    return apply


def torch(layout: Layout, shape: tuple[int, ...], epsilon: float, axis_name: str | None = None) -> Norm | None:
    """PyTorch's functions, of its own tensors."""
    # Its batch normalization refuses to train without epsilon.
    if axis_name is not None or (layout.name == "batch_norm" and epsilon == 0.0):
        return None
    from torch.nn import functional

    first: dict[str, Norm] = {
        "layer_norm": lambda x, w: functional.layer_norm(x, x.shape[-1:], eps=epsilon),
        "rms_norm": lambda x, w: functional.rms_norm(x, x.shape[-1:], eps=epsilon),
        "group_norm": lambda x, w: functional.group_norm(x.transpose(1, 2), layout.columns, eps=epsilon).transpose(
            1, 2
        ),
        "instance_norm": lambda x, w: functional.instance_norm(x.transpose(1, 2), eps=epsilon).transpose(1, 2),
        "batch_norm": lambda x, w: functional.batch_norm(x, None, None, training=True, eps=epsilon),
    }
    return first[layout.name]


WITHOUT_MASKS = ("Keras", "PyTorch")

PEERS: dict[str, Callable[..., Norm | None]] = {
    "Flax": flax(fast=True),
    "Flax, two passes": flax(fast=False),
    "jax.nn.standardize": standardize,
    "Keras": keras,
    "PyTorch": torch,
}
