"""Masks for optax: the weights to decay, and the weights with a given name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import numpy as np

from jaxnorm._base.paths import Path, map_variables, variable_names
from jaxnorm._base.typing import PyTree
from jaxnorm.optim.roles import Weights, is_gain_of_kernel, told_by_name

Mask: TypeAlias = PyTree | Callable[[PyTree], PyTree]
"""Booleans in the structure of the weights or in a prefix of it, or a function from the weights to such booleans."""


def decay_mask(params: PyTree, *, decay: Mapping[str, bool] | None = None) -> PyTree:
    r"""Selects the weights to decay: kernels, but not biases, gains or initial carries.

    Use it as the mask of ``optax.adamw`` or ``optax.add_decayed_weights``. They also accept the function itself:
    ``optax.adamw(1e-3, mask=jaxnorm.optim.decay_mask)``.

    True for kernels of inputs, of the recurrent product and of projections, convolutions, attention and embeddings.
    False for weights with one number per unit, whatever their rank: biases, gains of normalizers and of weight
    normalizers, peepholes, the recurrent vector of ``IndRNN``, slopes, thresholds, initial carries.

    Args:
      params: the weights of a cell or normalizer, or any tree with their names and those of Flax's layers, such as
        ``variables["params"]`` or ``nnx.state(model, nnx.Param)``. A tree without weights comes back unchanged.
      decay: overrides by name, ``{"embedding": False}``. A name is the path of a weight, joined by underscores, or the
        end of the path; the longest match wins.

    Returns:
      Booleans in the structure of ``params``; each replaces a weight together with its box (``nnx.Param``).

    Raises:
      TypeError: ``params`` is not a tree of arrays, or a name in ``decay`` matches no weight.
      ValueError: the name of a weight does not tell its role.

    Example:
      >>> import jax, jaxnorm, jaxnorm.optim
      >>> params = jaxnorm.ln_lstm(4).init(jax.random.key(0), in_features=3)
      >>> mask = jaxnorm.optim.decay_mask(params)
      >>> mask.kernel, mask.recurrent, mask.bias, mask.norm.input
      (True, True, False, Affine(scale=False, bias=False))

    Notes:
      Decaying the gain of a layer-normalized gate shrinks the gate's input, down to a gate of one half. Decaying a
      kernel before a normalizer shrinks no output; it makes steps larger. The last words of a longer name decide:
      ``pos_embedding``, ``query_bias``, ``kernel_1``.
    """
    weights = Weights("decay_mask", params)
    told = told_by_name(weights, "decay", decay)

    def decays(path: Path) -> bool:
        return bool(decay[told[path]]) if decay is not None and path in told else weights.is_kernel(path)

    return map_variables(decays, params)


def named(*names: str) -> Callable[[PyTree], PyTree]:
    """Makes a mask of all weights with one of the given names; the name of a weight is the last entry of its path.

    Args:
      *names: names of fields, dictionary entries or attributes.

    Returns:
      A function from weights to booleans. It ignores boxes around a weight (``nnx.Param``, ``nn.Partitioned``). It does
      not choose the scales that ``Reparametrized`` and ``NormPropLSTM`` keep under the names of kernels.

    Raises:
      ValueError: raised by the function if no weight has such a name.

    Example:
      >>> import jaxnorm.optim
      >>> jaxnorm.optim.named("kernel")({"dense": {"kernel": 1.0, "bias": 0.0}})
      {'dense': {'bias': False, 'kernel': True}}
    """

    def mask(params: PyTree) -> PyTree:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        shapes = {variable_names(path): np.shape(leaf) for path, leaf in leaves}

        def chosen(path: Path) -> bool:
            return path[-1:] != () and path[-1] in names and not is_gain_of_kernel(path, shapes)

        found = map_variables(chosen, params)
        if not any(jax.tree.leaves(found)):
            raise ValueError(
                f"jaxnorm.optim.named: no weight is named {' or '.join(map(repr, names))}. "
                "Give other names, or a mask of your own: booleans in the structure of the weights."
            )
        return found

    return mask


kernels = named("kernel", "recurrent")
"""The default mask: the kernels of all cells of this library and of Flax's layers."""
