"""The axes of each weight for optimizers that look at units or at matrices."""

from typing import TYPE_CHECKING

import jax

from jaxnorm._kernel_axes import AxisRule, input_axes, is_attention
from jaxnorm._paths import Path, map_variables, variable_names
from jaxnorm._typing import Axis, PyTree
from jaxnorm.optim.roles import Weights, told_by_name
from jaxnorm.zoo.cells.linear.min_gru import MinGRUParams
from jaxnorm.zoo.cells.linear.min_lstm import MinLSTMParams
from jaxnorm.zoo.cells.mutations.base import MUTParams
from jaxnorm.zoo.highway_layer import HighwayParams
from jaxnorm.zoo.norms.example.ada_layer_norm import AdaLayerNormParams

if TYPE_CHECKING:
    from optax.contrib import MuonDimensionNumbers

GATED = (HighwayParams, MinGRUParams, MinLSTMParams, MUTParams)
"""Weights of which nothing beside a kernel (I, G, H) need say that it is that of gates."""


def unit_axes(params: PyTree, *, axis: AxisRule | None = None) -> PyTree:
    r"""The axes of each weight that belong to one output unit, for norms unit by unit.

    They are the axes that hold the inputs of a unit in a kernel: 0 in (I, O) and in the gates of a cell,
    (I, G, H), all but the last in a convolution, (\*window, I, O), the last in an embedding. A weight that is no kernel
    (a bias, a gain) is one unit as a whole, as in the paper on adaptive gradient clipping.

    Args:
      params: the weights; see :func:`decay_mask`.
      axis: the axes that hold the inputs of a unit, where names and shapes do not say it or others are wanted: for
        all kernels; by name, ``{"head_kernel": (0, 1)}``, for other weights, too; or a function of the path, a tuple of
        names, and the array. None in their place leaves a weight alone.

    Returns:
      A tuple of axes for each weight, in the structure of ``params``; None for weights that are left alone. It stands
      for a weight with the box around it (``nnx.Param``).

    Raises:
      TypeError: ``params`` is no tree of arrays, or a name of ``axis`` belongs to no weight.
      ValueError: the name of a weight does not say what it is, or it is not certain where the inputs of a unit lie.

    Example:
      >>> import jax, jaxnorm, jaxnorm.optim
      >>> params = jaxnorm.gru(4).init(jax.random.key(0), in_features=3)
      >>> jaxnorm.optim.unit_axes(params)._asdict()  # doctest: +NORMALIZE_WHITESPACE
      {'kernel': (0,), 'recurrent': (0,), 'bias': (0, 1), 'recurrent_bias': (0, 1), 'norm': CellNorms(input=(),
       recurrent=(), cell=(), summed=(), projection=()), 'carry': None}
    """
    axes = axes_by_path("unit_axes", params, axis)
    return map_variables(axes.get, params)


def axes_by_path(caller: str, params: PyTree, axis: AxisRule | None) -> dict[Path, tuple[int, ...]]:
    """The same by path, without those that are left alone, with messages in the name of the caller."""
    weights, found, left = _axes(caller, params, axis)
    whole = {path: tuple(range(len(leaf.shape))) for path, leaf in weights.leaves.items() if path not in left}
    return {**whole, **found}


def muon_dimensions(params: PyTree, *, axis: AxisRule | None = None) -> PyTree:
    r"""The matrices in each kernel, for ``muon_weight_dimension_numbers`` of ``optax.contrib.muon``.

    A matrix goes from the inputs of a unit to the last axis of the kernel. All other axes count matrices, each of which
    is made orthogonal by itself: gates in (I, G, H), heads and gates in (N, S, G, S), layers that ``nn.scan`` or
    ``nnx.vmap`` stacked. In a convolution, (\*window, I, O), the window belongs to the inputs; heads of attention,
    (I, heads, F), are joined, as its queries, keys and values are one product each.

    Args:
      params: the weights; see :func:`decay_mask`.
      axis: the axes that hold the inputs of a unit; see :func:`unit_axes`. None leaves a weight to Adam, as is
        usual for the kernel before the loss: ``{"head_kernel": None}``.

    Returns:
      ``optax.contrib.MuonDimensionNumbers`` for each kernel, in the structure of ``params``, in the place of the box
      around it if there is one (``nnx.Param``). None, which means Adam,
      for everything else, embeddings included: most of their rows have no gradient in a step, and a row that was seen
      once would make as large a step as one that was seen often.

    Raises:
      TypeError: ``params`` is no tree of arrays, or a name of ``axis`` belongs to no weight.
      ValueError: the name of a weight does not say what it is, or it is not certain where the inputs of a unit lie.

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
      Hand the dimensions to optax, not the function: optax calls a function once more, on kernels alone, when a bias
      that told the layout of its kernel has been masked.

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
    """The axes of a kernel that are the outputs of one matrix."""
    along = tuple(a for a in range(len(weights.leaves[path].shape)) if a not in inputs)
    after = tuple(a for a in along if a > min(inputs, default=-1)) or along
    return after if is_attention(path, weights.groups) else after[-1:]


def _axes(
    caller: str, params: PyTree, axis: AxisRule | None
) -> tuple[Weights, dict[Path, tuple[int, ...]], frozenset[Path]]:
    """All weights, the axes that hold the inputs of a unit in kernels, and those that are left alone."""
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
    """What the types of weights say of kernels where names and shapes say little."""
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
