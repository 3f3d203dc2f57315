"""Finds the axes that hold the inputs of a unit in a linen model; the public name is in ``linen``."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxnorm._base.paths import Path, paths
from jaxnorm._base.typing import Axis
from jaxnorm._shared.kernel_axes import contracted
from jaxnorm._shared.layers import kernel_axes as kernel_axes_of

PARAMS = "params"


def kernel_axes(module: nn.Module, rngs: Any, *args: Any, **kwargs: Any) -> dict[str, Axis]:
    """Finds the axes that hold the inputs of a unit, for each kernel of a model, from its layers.

    Pass the result as ``axis`` to the transformations of ``jaxnorm.optim``, which see only arrays. ``Reparametrized``
    finds the axes itself. This computes nothing: it traces the model with abstract arrays.

    Args:
      module: the model.
      rngs: as for ``module.init``.
      *args: for a call of the module.
      **kwargs: for a call of the module.

    Returns:
      Axes, keyed by the path of the kernel, joined by underscores. It omits kernels of other kinds of layers, and those
      that a transformation stacks (``nn.scan``, ``nn.vmap``).

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxnorm.linen
      >>> model = nn.Sequential([nn.Conv(4, (3,)), nn.DenseGeneral((2, 3))])
      >>> jaxnorm.linen.kernel_axes(model, jax.random.key(0), jnp.ones((2, 5, 3)))
      {'layers_0_kernel': (0, 1), 'layers_1_kernel': (0,)}
    """
    found, variables = traced(module, rngs, args, kwargs)
    return {"_".join(path): axis for path, axis in fitting(found, variables).items()}


def traced(module: nn.Module, rngs: Any, args: Any, kwargs: Any) -> tuple[dict[Path, tuple[Axis, int]], Any]:
    """Collects the axes of kernels and the number of axes that their layers see, and the shapes of all variables."""
    found: dict[Path, tuple[Axis, int]] = {}

    def watch(call: Any, call_args: Any, call_kwargs: Any, context: Any) -> Any:
        result = call(*call_args, **call_kwargs)
        layer = context.module
        if layer.scope is not None:
            weights = nn.meta.unbox(layer.variables.get(PARAMS, {}))
            for (*prefix, name), axis in _layer_axes(layer, weights, call_args, call_kwargs).items():
                for inside, leaf in paths(weights):
                    levels, wrapped = inside[: len(prefix)], inside[len(prefix) : -1]
                    if levels == tuple(prefix) and inside[-1] == name and all(level == "cell" for level in wrapped):
                        found[(*layer.path, *inside)] = axis, leaf.ndim
        return result

    def trace() -> Any:
        with nn.intercept_methods(watch):
            return module.clone(parent=None).init(rngs, *args, **kwargs)

    return found, jax.eval_shape(trace)


def fitting(found: Mapping[Path, tuple[Axis, int]], variables: Any) -> dict[Path, Axis]:
    """Keeps the kernels with as many axes in the model as in their layer; ``nn.scan`` and ``nn.vmap`` add axes."""
    whole = {path: leaf.ndim for path, leaf in paths(nn.meta.unbox(variables.get(PARAMS, {})))}
    return {path: axis for path, (axis, ndim) in found.items() if whole.get(path) == ndim}


def _layer_axes(layer: Any, weights: Any, args: Any, kwargs: Any) -> Mapping[Path, Axis]:
    """Returns the axes that hold the inputs of a unit, for the kernels of one layer."""
    if found := kernel_axes_of(getattr(layer, "cell", None)):
        return found
    if isinstance(layer, nn.Embed):
        return {("embedding",): (-1,)}
    if "kernel" not in weights:
        return {}
    ndim = weights["kernel"].ndim
    match layer:
        case nn.Dense():
            return {("kernel",): (0,)}
        case nn.DenseGeneral():
            batch, inputs = (len(v) if isinstance(v, tuple | list) else 1 for v in (layer.batch_dims, layer.axis))
            return {("kernel",): tuple(range(batch, batch + inputs))}
        case nn.Conv():
            return {("kernel",): tuple(range(ndim - 1))}
        case nn.ConvLocal():
            return {("kernel",): (-2,)}
        case nn.ConvTranspose():
            outputs = ndim - 2 if layer.transpose_kernel else ndim - 1
            return {("kernel",): tuple(a for a in range(ndim) if a != outputs)}
        case nn.Einsum():
            equation = layer.einsum_str or kwargs.get("einsum_str") or next(iter(args[1:2]), None)
            axes = contracted(equation)
            return {("kernel",): axes} if axes else {}
    return {}
