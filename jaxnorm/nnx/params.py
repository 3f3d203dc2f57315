"""NNX modules from given weights, such as converted ones, and back."""

from typing import Any

import jax
from flax import nnx

from jaxnorm._base import objects
from jaxnorm._base.typing import PyTree
from jaxnorm._shared.given_params import given_cells, given_norm, is_norm
from jaxnorm._shared.layers import by_name, named_statistics
from jaxnorm._shared.names import norm_template
from jaxnorm.engine.layers import PLAIN, Wiring, check_layers
from jaxnorm.engine.stacks import concatenate, stack
from jaxnorm.nnx import variables
from jaxnorm.nnx.norm import Norm
from jaxnorm.nnx.rnn import RNN

MODULE = objects.Wanted("a Norm, RNN or RNNCell of jaxnorm.nnx", "jaxnorm.nnx.RNN(lstm({}), 3, rngs=rngs)")


def from_params(spec: Any, params: PyTree, stats: PyTree = (), **options: Any) -> Norm | RNN:
    """Makes the module for given weights.

    Args:
      spec: a normalizer, a cell, or layers of cells, as :class:`RNN` takes them.
      params: the weights, in the structure of the spec.
      stats: running statistics, in the same structure; ``()`` are those before any data.
      **options: arguments of the constructor of :class:`Norm` or :class:`RNN`, except ``rngs``; ``num_features``
        (``Norm``) and ``in_features`` (``RNN``) only if the weights do not tell them.

    Returns:
      The module.

    Raises:
      TypeError: params or stats do not have the structure of the spec.
      ValueError: a shape does not fit.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> rnn = jaxnorm.nnx.from_params(jaxnorm.gru(4), jaxnorm.gru(4).init(jax.random.key(0), 3))
      >>> rnn(jnp.ones((2, 5, 3))).shape
      (2, 5, 4)
    """
    caller = "jaxnorm.nnx.from_params"
    module: Any
    if is_norm(caller, spec):
        params, stats, shape = given_norm(caller, spec, params, stats, options.pop("num_features", None))
        module = nnx.eval_shape(lambda: Norm(spec, shape, **options))
        variables.replace(module, params)
        variables.replace(module, stats)
        return module  # type: ignore[no-any-return]
    cells, in_features = check_layers(caller, "spec", spec), options.pop("in_features", None)
    wiring = Wiring(options.get("stack", stack), options.get("merge_fn", concatenate))
    params, stats, size = given_cells(caller, cells, params, stats, in_features, wiring)
    module = nnx.eval_shape(lambda: RNN(cells, size, rngs=jax.random.key(0), **options))
    variables.replace(module, by_name(cells, params))
    variables.replace(module, named_statistics(cells, stats))
    return module  # type: ignore[no-any-return]


def to_params(module: nnx.Module) -> tuple[PyTree, PyTree]:
    """Returns the weights and the running statistics of a module, in the structure of its spec.

    Args:
      module: a :class:`Norm`, :class:`RNN` or :class:`RNNCell`.

    Returns:
      Weights and statistics, for the functions of the core, for :func:`from_params` and for ``convert``.

    Raises:
      TypeError: the module is another one.

    Example:
      >>> import jax.numpy as jnp, jaxnorm, jaxnorm.nnx
      >>> from flax import nnx
      >>> module = jaxnorm.nnx.RNN(jaxnorm.gru(4), 3, rngs=nnx.Rngs(0))
      >>> params, stats = jaxnorm.nnx.to_params(module)
      >>> jaxnorm.unroll(module.cell, params, jnp.ones((5, 2, 3))).outputs.shape
      (5, 2, 4)
    """
    one: Any = module
    if isinstance(module, variables.OfNorm):
        return variables.read(module, norm_template(one.spec, one.param_shape)), variables.statistics(module)
    objects.require("jaxnorm.nnx.to_params", "module", module, variables.OfCell, MODULE)
    return variables.weights(module, getattr(module, "wiring", PLAIN)), variables.running(module)
