"""DropConnect on the recurrent kernel: drops random connections for a whole sequence."""

import dataclasses
from typing import final

import jax

from jaxnorm._base import objects
from jaxnorm._base.typing import Array, DTypeLike, PyTree
from jaxnorm.cells.base import Key
from jaxnorm.cells.hooks import GateMasks, hooks
from jaxnorm.cells.wrappers import randomness
from jaxnorm.cells.wrappers.base import StochasticWrapper, WithMasks
from jaxnorm.norms.base import Params
from jaxnorm.norms.core.moments import statistics_dtype


@final
@dataclasses.dataclass(frozen=True)
class DropConnect(StochasticWrapper):
    r"""Drops random recurrent connections of a cell, the same ones at all steps and for all examples.

    .. math:: a_t = h_{t-1} (M \odot U), \qquad M \sim \text{Bernoulli}(1 - p) / (1 - p)

    independently for each element of the recurrent kernel :math:`U`, before a layer normalization centers the kernel.
    In evaluation U is whole. Inside of :class:`jaxnorm.Reparametrized`, U is the normalized kernel.

    Attributes:
      cell: any cell with a recurrent kernel, also one that is wrapped already.
      deterministic: whether to run in evaluation mode; see :func:`jaxnorm.deterministic`.
      rate: p, the probability of dropping a connection; in [0, 1], where 1 drops all.

    Raises:
      ValueError: the rate is not in [0, 1], or the cell has no recurrent kernel.

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

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
        gate_masks: GateMasks | None = None,
    ) -> WithMasks:
        """Masks the recurrent kernel and prepares the inner cell with it."""
        own, _ = self.keys(key)
        if own is not None:
            params = params._replace(recurrent=self._mask(own, self._recurrent(params)))
        return super().prepare(params, dtype=dtype, batch_shape=batch_shape, key=key, gate_masks=gate_masks)

    def _recurrent(self, params: Params) -> PyTree:
        kernel = getattr(params, "recurrent", None)
        if kernel is None or not hooks(self.cell).multiplies_state:
            raise ValueError(
                f"DropConnect: {type(self.cell).__name__} has no weight 'recurrent', only "
                f"{getattr(params, '_fields', objects.describe(params))}. Put it around a cell with a recurrent "
                "kernel, inside of Reparametrized."
            )
        return kernel

    def _mask(self, key: Key, kernels: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(kernels)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(tree, [self._mask_kernel(one, k) for one, k in zip(leaves, keys, strict=True)])

    def _mask_kernel(self, kernel: Array, key: Key) -> Array:
        wide = kernel.astype(statistics_dtype(kernel.dtype))
        factors = randomness.draw_factors(key, self.rate, kernel.shape).astype(wide.dtype)
        return (wide * factors).astype(kernel.dtype)
