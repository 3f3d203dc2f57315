"""Finds the axes that hold the inputs of a unit in an NNX model; the public name is in ``nnx``."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxnorm._base.paths import Path
from jaxnorm._base.typing import Axis
from jaxnorm._shared.kernel_axes import contracted
from jaxnorm._shared.layers import kernel_axes as kernel_axes_of


def kernel_axes(module: nnx.Module) -> dict[str, Axis]:
    """Finds the axes that hold the inputs of a unit, for each kernel of a model, from its layers.

    Pass the result as ``axis`` to the transformations of ``jaxnorm.optim``, which see only arrays. ``Reparametrized``
    finds the axes itself.

    Args:
      module: the model.

    Returns:
      Axes, keyed by the path of the kernel, joined by underscores. It omits kernels of other kinds of layers, and those
      that ``nnx.vmap`` stacks.

    Example:
      >>> import jaxnorm.nnx
      >>> from flax import nnx
      >>> model = nnx.MultiHeadAttention(2, in_features=3, qkv_features=8, decode=False, rngs=nnx.Rngs(0))
      >>> jaxnorm.nnx.kernel_axes(model)
      {'key_kernel': (0,), 'out_kernel': (0, 1), 'query_kernel': (0,), 'value_kernel': (0,)}
    """
    return {"_".join(path): axis for path, axis in layer_axes(module).items()}


def layer_axes(module: nnx.Module) -> dict[Path, Axis]:
    """Finds the same axes, keyed by path."""
    found: dict[Path, Axis] = {}
    for path, layer in nnx.iter_graph(module):
        if isinstance(layer, nnx.Module):
            at = tuple(map(str, path))
            found.update({(*at, *inside): axis for inside, axis in _axes_of(layer).items()})
    return found


def _axes_of(layer: Any) -> Mapping[Path, Axis]:
    """Returns the axes that hold the inputs of a unit, for the kernels of one layer."""
    if found := kernel_axes_of(getattr(layer, "cell", None)):
        return found
    if isinstance(layer, nnx.Embed):
        return {("embedding",): (-1,)}
    axes, ndim = _axes_and_ndim(layer)
    return {("kernel",): axes} if axes and layer.kernel.get_value().ndim == ndim else {}


def _axes_and_ndim(layer: Any) -> tuple[tuple[int, ...], int]:
    """Returns the input axes of the kernel of one layer and its number of axes; no axes for an unknown layer."""
    match layer:
        case nnx.Linear():
            return (0,), 2
        case nnx.LinearGeneral():
            batch, inputs = len(layer.batch_axis), len(layer.in_features)
            return tuple(range(batch, batch + inputs)), batch + inputs + len(layer.out_features)
        case nnx.Conv():
            ndim = len(layer.kernel_shape)
            return tuple(range(ndim - 1)), ndim
        case nnx.ConvTranspose():
            ndim = len(layer.kernel_size) + 2
            outputs = ndim - 2 if layer.transpose_kernel else ndim - 1
            return tuple(a for a in range(ndim) if a != outputs), ndim
        case nnx.Einsum():
            return contracted(layer.einsum_str), len(layer.kernel_shape)
    return (), 0
