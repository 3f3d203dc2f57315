"""Linen modules from given weights, such as converted ones, and back."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxnorm._base import objects
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.given_params import feature_shape, given_cells, given_norm, is_norm
from jaxnorm._shared.layers import by_cell, by_name, cell_template, initial_statistics, named_statistics, statistics_of
from jaxnorm._shared.names import from_names, norm_template, to_names
from jaxnorm.engine.layers import PLAIN, all_cells, check_layers
from jaxnorm.linen.norm import Norm
from jaxnorm.linen.rnn import RNN
from jaxnorm.linen.rnn_cell import RNNCell
from jaxnorm.linen.variables import PARAMS, STATS

MODULE = objects.Wanted("a Norm, RNN or RNNCell of jaxnorm.linen", "jaxnorm.linen.RNN(lstm({}))")


def from_params(spec: Any, params: PyTree, stats: PyTree = (), **options: Any) -> tuple[Norm | RNN, dict[str, Any]]:
    """Makes the module for given weights, and its variables.

    Args:
      spec: a normalizer, a cell, or layers of cells, as :class:`RNN` takes them.
      params: the weights, in the structure of the spec.
      stats: running statistics, in the same structure; ``()`` are those before any data.
      **options: attributes of the module, :class:`Norm` or :class:`RNN`; and if the weights do not tell the number of
        features, ``num_features`` (``Norm``) or ``in_features`` (``RNN``).

    Returns:
      The module, and the variables for ``module.apply``. For an :class:`RNNCell` inside ``flax.linen.RNN`` put them
      under ``"cell"``.

    Raises:
      TypeError: params or stats do not have the structure of the spec.
      ValueError: a shape does not fit.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module, variables = jaxnorm.linen.from_params(jaxnorm.gru(4), jaxnorm.gru(4).init(jax.random.key(0), 3))
      >>> module.apply(variables, jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
    """
    caller = "jaxnorm.linen.from_params"
    module: Norm | RNN
    if is_norm(caller, spec):
        params, stats, _ = given_norm(caller, spec, params, stats, options.pop("num_features", None))
        module, named, running = Norm(spec, **options), to_names(params), to_names(stats)
    else:
        in_features = options.pop("in_features", None)
        module = RNN(check_layers(caller, "spec", spec), **options)
        cells: Any = module.cell
        params, stats, _ = given_cells(caller, cells, params, stats, in_features, module.wiring)
        named, running = to_names(by_name(cells, params)), to_names(named_statistics(cells, stats))
    return module, {name: tree for name, tree in ((PARAMS, named), (STATS, running)) if tree}


def to_params(module: nn.Module, variables: Mapping[str, Any]) -> tuple[PyTree, PyTree]:
    """Returns the weights and the running statistics in the variables of a module, in the structure of its spec.

    Args:
      module: a :class:`Norm`, :class:`RNN` or :class:`RNNCell`.
      variables: its variables, as ``module.init`` returns them.

    Returns:
      Weights and statistics, for the functions of the core, for :func:`from_params` and for ``convert``.

    Raises:
      TypeError: the module is another one.
      KeyError: a variable is missing.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.linen
      >>> module = jaxnorm.linen.RNN(jaxnorm.gru(4))
      >>> variables = module.init(jax.random.key(0), jnp.ones((2, 5, 3)))
      >>> params, stats = jaxnorm.linen.to_params(module, variables)
      >>> jaxnorm.unroll(module.cell, params, jnp.ones((5, 2, 3))).outputs.shape
      (5, 2, 4)
    """
    named, running = (nn.meta.unbox(variables.get(name, {})) for name in (PARAMS, STATS))
    if isinstance(module, Norm):
        shape = feature_shape(module.spec, named, running) or (1,)
        stats = jax.eval_shape(lambda: module.spec.initial_stats(shape))
        return from_names(norm_template(module.spec, shape), named), from_names(stats, running)
    if not isinstance(module, RNN | RNNCell):
        objects.refuse("jaxnorm.linen.to_params", "module", module, MODULE)
    cells: Any = module.cell
    # The names do not depend on the number of inputs; some cells take only as many as they have hidden features.
    template = cell_template(cells, all_cells(cells)[0].hidden_features, getattr(module, "wiring", PLAIN))
    stats = jax.eval_shape(lambda: initial_statistics(cells))
    return by_cell(cells, from_names(template, named)), statistics_of(cells, from_names(stats, running))
