r"""Layer normalization of a product without computing its mean: center the kernel instead, once a sequence.

The mean over the outputs of :math:`x W` is x times the mean over the columns of W. Subtract that column mean from W:

.. math:: x (W - \bar W) = x W - \overline{x W}

is centered for every x, so its layer normalization reduces to root-mean-square normalization. Each step saves one
reduction in the forward loop and one in the backward loop. The transpose of ``prepare`` centers the gradient of W.
"""

import dataclasses
from typing import final

import jax.numpy as jnp

from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms.base import Normalizer, Params, Reducible, Stateless, Stats
from jaxnorm.norms.core.moments import statistics_dtype


def after_centering(norm: Normalizer) -> Normalizer:
    """Returns the normalizer that a centered product needs: without the mean, and with the same weights."""
    return norm.without_mean() if isinstance(norm, Reducible) and norm.subtracts_feature_mean else norm


@final
@dataclasses.dataclass(frozen=True)
class Uncentered(Stateless):
    """A normalizer that subtracts the mean itself, for products whose kernel is not centered.

    The wrapper says nothing of the mean, so that ``center`` and ``after_centering`` leave the normalizer alone.
    """

    norm: Normalizer

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the normalizer gives."""
        return self.norm.param_shape(shape)

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """The weights of the normalizer."""
        return self.norm.init(shape, dtype)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies the normalizer."""
        return self.norm(params, x, stats, where)

    def check_site(self, caller: str) -> None:
        """Checks the site as the normalizer does."""
        self.norm.check_site(caller)


def uncentered(norm: Normalizer) -> Normalizer:
    """Returns the same normalizer for products of kernels that must stay uncentered."""
    return Uncentered(norm) if _centers(norm) else norm


def center(norm: Normalizer, groups: tuple[int, ...], kernel: Float[Array, "*I GH"]) -> Float[Array, "*I GH"]:
    """Subtracts a kernel's (or bias's) mean over each group of gates, if the next normalizer would do so anyway."""
    if not _centers(norm):
        return kernel
    hidden = kernel.shape[-1] // sum(groups)
    wide = kernel.astype(statistics_dtype(kernel.dtype))
    parts, low = [], 0
    for size in groups:
        part = wide[..., low * hidden : (low + size) * hidden]
        parts.append(part - jnp.mean(part, axis=-1, keepdims=True))
        low += size
    return jnp.concatenate(parts, axis=-1).astype(kernel.dtype)


def _centers(norm: Normalizer) -> bool:
    """Whether a normalizer says that it subtracts a mean over each example's features, all of them on one device."""
    return isinstance(norm, Reducible) and norm.subtracts_feature_mean
