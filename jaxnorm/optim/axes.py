"""The axes of each weight, for optimizers that treat units or matrices separately."""

from typing import TYPE_CHECKING

import jax

from jaxnorm._base.paths import Path, map_variables, variable_names
from jaxnorm._base.typing import Axis, PyTree
from jaxnorm._shared.kernel_axes import AxisRule, input_axes, is_attention
from jaxnorm.optim.roles import Weights, told_by_name
from jaxnorm.zoo.cells.linear.min_gru import MinGRUParams
from jaxnorm.zoo.cells.linear.min_lstm import MinLSTMParams
from jaxnorm.zoo.cells.mutations.base import MUTParams
from jaxnorm.zoo.highway_layer import HighwayParams
from jaxnorm.zoo.norms.example.ada_layer_norm import AdaLayerNormParams

if TYPE_CHECKING:
    from optax.contrib import MuonDimensionNumbers

GATED = (HighwayParams, MinGRUParams, MinLSTMParams, MUTParams)
"""Types of weights whose kernel (I, G, H) holds gates, even if no other weight next to it shows that."""


def unit_axes(params: PyTree, *, axis: AxisRule | None = None) -> PyTree:
    r"""Returns the axes of each weight that belong to one output unit, for norms per unit.

    They are the axes that hold the inputs of a unit in a kernel: 0 in (I, O) and in the gates of a cell,
    (I, G, H), all but the last in a convolution, (\*window, I, O), the last in an embedding. Any other weight (a
    bias, a gain) counts as a single unit, as in the paper on adaptive gradient clipping.

    Args:
      params: the weights; see :func:`decay_mask`.
      axis: the axes that hold the inputs of a unit, if names and shapes do not determine them or you want others. Pass
        one for all kernels; or several keyed by name, ``{"head_kernel": (0, 1)}``, which also works for other weights;
        or a function of the path (a tuple of names) and the array. None instead of axes leaves a weight alone.

    Returns:
      A tuple of axes for each weight, in the structure of ``params``; None for weights to leave alone. It replaces a
      weight together with its box (``nnx.Param``).

    Raises:
      TypeError: ``params`` is not a tree of arrays, or a name in ``axis`` matches no weight.
      ValueError: the name of a weight does not tell its role, or the axes of a unit's inputs are not known.

    Example:
      >>> import jax, jaxnorm, jaxnorm.optim
      >>> params = jaxnorm.gru(4).init(jax.random.key(0), in_features=3)
      >>> jaxnorm.optim.unit_axes(params)._asdict()  # doctest: +NORMALIZE_WHITESPACE
      {'kernel': (0,), 'recurrent': (0,), 'bias': (0,), 'recurrent_bias': (0,), 'norm': CellNorms(input=(),
       recurrent=(), cell=(), summed=(), projection=()), 'carry': None}
    """
    axes = axes_by_path("unit_axes", params, axis)
    return map_variables(axes.get, params)


def axes_by_path(caller: str, params: PyTree, axis: AxisRule | None) -> dict[Path, tuple[int, ...]]:
    """Returns the same axes keyed by path, without weights to leave alone; errors name the caller."""
    weights, found, left = _axes(caller, params, axis)
    whole = {path: tuple(range(len(leaf.shape))) for path, leaf in weights.leaves.items() if path not in left}
    return {**whole, **found}


def muon_dimensions(params: PyTree, *, axis: AxisRule | None = None) -> PyTree:
    r"""Finds the matrices in each kernel, for ``muon_weight_dimension_numbers`` of ``optax.contrib.muon``.

    A matrix maps the inputs of a unit to the last axis of the kernel. All other axes count matrices, which Muon
    orthogonalizes separately: gates in (I, G, H), heads and gates in (N, S, G, S), layers that ``nn.scan`` or
    ``nnx.vmap`` stacked. In a convolution, (\*window, I, O), the window belongs to the inputs. Attention joins its
    heads, (I, heads, F), since queries, keys and values are one product each.

    Args:
      params: the weights; see :func:`decay_mask`.
      axis: the axes that hold the inputs of a unit; see :func:`unit_axes`. None leaves a weight to Adam, as is
        usual for the kernel before the loss: ``{"head_kernel": None}``.

    Returns:
      ``optax.contrib.MuonDimensionNumbers`` for each kernel, in the structure of ``params``, in place of the kernel's
      box if it has one (``nnx.Param``). None, which means Adam, for everything else, even embeddings: most of their
      rows have no gradient in a step, and a row seen once would take as large a step as one seen often.

    Raises:
      TypeError: ``params`` is not a tree of arrays, or a name in ``axis`` matches no weight.
      ValueError: the name of a weight does not tell its role, or the axes of a unit's inputs are not known.

    Example:
      >>> import jax, optax, jaxnorm, jaxnorm.optim
      >>> params = jaxnorm.ln_lstm(4).init(jax.random.key(0), in_features=3)
      >>> dimensions = jaxnorm.optim.muon_dimensions(params)
      >>> dimensions.kernel
      MuonDimensionNumbers(reduction_axis=(0,), output_axis=(2,))
      >>> print(dimensions.bias)
      None
      >>> optimizer = optax.contrib.muon(1e-2, muon_weight_dimension_numbers=dimensions)

    Notes:
      Pass the dimensions to optax, not the function: optax would call the function again on kernels only, when it has
      masked the bias that determines the layout of a kernel.

    Reference:
      K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. That biases, gains, embeddings
      and the last layer go to Adam is its rule.
    """
    from optax.contrib import MuonDimensionNumbers

    weights, found, _ = _axes("muon_dimensions", params, axis)

    def dimensions(path: Path) -> "MuonDimensionNumbers | None":
        if path not in found or path[-1].endswith("embedding"):
            return None
        outputs = _outputs(path, found[path], weights)
        return MuonDimensionNumbers(found[path], outputs) if outputs else None

    return map_variables(dimensions, params)


def _outputs(path: Path, inputs: tuple[int, ...], weights: Weights) -> tuple[int, ...]:
    """Returns the output axes of one matrix of a kernel."""
    along = tuple(a for a in range(len(weights.leaves[path].shape)) if a not in inputs)
    after = tuple(a for a in along if a > min(inputs, default=-1)) or along
    return after if is_attention(path, weights.groups) else after[-1:]


def _axes(
    caller: str, params: PyTree, axis: AxisRule | None
) -> tuple[Weights, dict[Path, tuple[int, ...]], frozenset[Path]]:
    """Returns all weights, the input axes of kernels, and the paths of weights to leave alone."""
    weights = Weights(caller, params)
    told = told_by_name(weights, "axis", axis)
    chosen = [path for path in weights.leaves if path in told or weights.is_kernel(path)]
    try:
        found = input_axes(caller, axis, weights.leaves, chosen, _of_types(params), names=weights.names)
    except ValueError as error:
        if not weights.masked:
            raise
        raise ValueError(f"{error} Some weights are masked here; call {caller} on all of them, once.") from error
    return weights, found, frozenset(chosen) - frozenset(found)


def _of_types(params: PyTree) -> dict[Path, Axis]:
    """Returns the axes that the types of weights determine where names and shapes do not."""
    found: dict[Path, Axis] = {}
    types = (*GATED, AdaLayerNormParams)
    for path, node in jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda node: isinstance(node, types)):
        if not isinstance(node, types):
            continue
        shapes = {name: leaf.shape for name, leaf in node._asdict().items() if hasattr(leaf, "shape")}
        for name in {"kernel", "recurrent"} & set(shapes):
            if isinstance(node, GATED):
                found[*variable_names(path), name] = len(shapes[name]) - 3
            elif shapes[name][1:] == shapes.get("bias"):
                found[*variable_names(path), name] = 0
    return found
