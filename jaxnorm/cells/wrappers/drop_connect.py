"""DropConnect on the recurrent kernel: drops random connections for a whole sequence."""

import dataclasses
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from jaxnorm._namedtuple import NamedTuple
from jaxnorm._typing import Array, DTypeLike, Float
from jaxnorm.cells.base import Key, Ready
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import Wrapper
from jaxnorm.norms.base import Params
from jaxnorm.norms.core.moments import statistics_dtype


class Waiting(NamedTuple):
    """Weights that are not prepared yet: centering must see the kernel after the mask, not before it."""

    params: Params
    dtype: Float[Array, " 0"] | None
    """An empty array of the compute dtype: a tree of weights can hold an array, but not a dtype."""


@final
@dataclasses.dataclass(frozen=True)
class DropConnect(Wrapper):
    r"""Drops random recurrent connections of a cell, the same ones at all steps and for all examples.

    .. math:: a_t = h_{t-1} (M \odot U), \qquad M \sim \text{Bernoulli}(1 - p) / (1 - p)

    independently for each element of the recurrent kernel :math:`U`, before a layer normalization centers the kernel.
    In evaluation U is whole. Inside of :class:`jaxnorm.Reparametrized`, U is the normalized kernel.

    Attributes:
      cell: any cell with a recurrent kernel, also one that is wrapped already.
      deterministic: whether to run in evaluation mode; see :func:`jaxnorm.deterministic`.
      rate: p, the probability of dropping a connection; in [0, 1).

    Raises:
      ValueError: the rate is not in [0, 1), or the cell has no recurrent kernel.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.DropConnect(jaxnorm.ln_lstm(4), rate=0.5)
      >>> params = cell.init(jax.random.key(0), in_features=3)  # those of the LSTM
      >>> xs = jnp.ones((5, 2, 3))
      >>> jaxnorm.unroll(cell, params, xs, key=jax.random.key(1)).outputs.shape
      (5, 2, 4)

    Notes:
      We scale the remaining connections up by :math:`1 / (1 - p)`, as AWD-LSTM and haste do. The original DropConnect
      draws a mask for each example, does not scale, and approximates the activations in evaluation by Gaussians. With
      one mask for the batch, the recurrent product stays a single matmul.

    Reference:
      S. Merity, N. S. Keskar, R. Socher, "Regularizing and Optimizing LSTM Language Models", 2018, arXiv:1708.02182,
      section 2; L. Wan et al., "Regularization of Neural Networks using DropConnect", 2013.
    """

    _: dataclasses.KW_ONLY
    rate: float = 0.0

    below_one: ClassVar[bool] = True

    def prepare(self, params: Params, dtype: DTypeLike | None = None) -> Ready:
        """Defers preparation until ``sample`` draws the mask; without a mask, prepares the inner cell."""
        if not self.active:
            return self.cell.prepare(params, dtype)
        if not hasattr(params, "recurrent"):
            raise ValueError(
                f"DropConnect: {type(self.cell).__name__} has no weight 'recurrent', only {params._fields}. Put it "
                "around a cell with a recurrent kernel, inside of Reparametrized."
            )
        return Waiting(params, None if dtype is None else jnp.zeros((0,), dtype))

    def sample(self, ready: Ready, batch_shape: tuple[int, ...], key: Key | None) -> Ready:
        """Draws the mask and prepares the inner cell with the masked weights."""
        own, inner = self.keys(key)
        if own is not None:
            params, like = ready
            leaves, tree = jax.tree.flatten(params.recurrent)
            keys = jax.random.split(own, len(leaves))
            cut = [_cut(leaf, leaf_key, self.rate) for leaf, leaf_key in zip(leaves, keys, strict=True)]
            params = params._replace(recurrent=jax.tree.unflatten(tree, cut))
            ready = self.cell.prepare(params, None if like is None else like.dtype)
        return self.cell.sample(ready, batch_shape, inner)


def _cut(kernel: Array, key: Any, rate: float) -> Array:
    wide = kernel.astype(statistics_dtype(kernel.dtype))
    return (wide * randomness.inverted(key, rate, kernel.shape).astype(wide.dtype)).astype(kernel.dtype)
