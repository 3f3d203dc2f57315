"""Masks for optax: which weights decay, and which have a given name."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import numpy as np

from jaxnorm._paths import Path, map_variables, variable_names
from jaxnorm._typing import PyTree
from jaxnorm.optim.roles import Weights, is_gain_of_kernel, told_by_name

Mask: TypeAlias = PyTree | Callable[[PyTree], PyTree]
"""Booleans in the structure of the weights or of a part of it from the root, or a function of the weights to that."""


def decay_mask(params: PyTree, *, decay: Mapping[str, bool] | None = None) -> PyTree:
    r"""Says which weights to decay: kernels, and no biases, gains or initial carries.

    It is the mask of ``optax.adamw``, ``optax.add_decayed_weights`` and the like. Those take it as a function, too:
    ``optax.adamw(1e-3, mask=jaxnorm.optim.decay_mask)``.

    True for kernels of inputs, of the recurrent product and of projections, convolutions, attention and embeddings.
    False for what has one number for a unit, whatever its rank: biases, gains of normalizers and of weight
    normalizers, peepholes, the recurrent vector of ``IndRNN``, slopes, thresholds, initial carries.

    Args:
      params: the weights: those of a cell or normalizer, or any tree with their names and those of Flax's layers, such
        as ``variables["params"]`` or ``nnx.state(model, nnx.Param)``. A tree without weights is returned as it is.
      decay: the answer for weights by name, ``{"embedding": False}``: the path of a weight joined by underscores or
        the end of it; the longest wins.

    Returns:
      Booleans in the structure of ``params``; one stands for a weight with the box around it (``nnx.Param``).

    Raises:
      TypeError: ``params`` is no tree of arrays, or a name of ``decay`` belongs to no weight.
      ValueError: the name of a weight does not say what it is.

    Example:
      >>> import jax, jaxnorm, jaxnorm.optim
      >>> params = jaxnorm.ln_lstm(4).init(jax.random.key(0), in_features=3)
      >>> mask = jaxnorm.optim.decay_mask(params)
      >>> mask.kernel, mask.recurrent, mask.bias, mask.norm.input
      (True, True, False, Affine(scale=False, bias=False))

    Notes:
      Decay of a gain of a layer-normalized gate shrinks what the gate sees, to half a gate in the limit; decay of a
      kernel before a normalizer shrinks nothing, it makes steps larger. A name with more words goes by its last ones:
      ``pos_embedding``, ``query_bias``, ``kernel_1``.
    """
    weights = Weights("decay_mask", params)
    told = told_by_name(weights, "decay", decay)

    def decays(path: Path) -> bool:
        return bool(decay[told[path]]) if decay is not None and path in told else weights.is_kernel(path)

    return map_variables(decays, params)


def named(*names: str) -> Callable[[PyTree], PyTree]:
    """A mask of all weights whose own name, the last one on the way to them, is one of those given.

    Args:
      *names: names of fields, dictionary entries or attributes.

    Returns:
      A function of weights to booleans. Boxes around a weight (``nnx.Param``, ``nn.Partitioned``) do not count.
      Scales that ``Reparametrized`` and ``NormPropLSTM`` have under the names of kernels are not chosen.

    Raises:
      ValueError: by the function, when there is no weight of such a name.

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
"""The mask that is used where none is given: the kernels of all cells of this library and of Flax's layers."""
