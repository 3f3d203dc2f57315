r"""Layer normalization of a product without its mean: the kernel is centered instead, once a sequence.

The mean over the outputs of :math:`x W` is x times the mean over the columns of W. Without that column mean in W,

.. math:: x (W - \bar W) = x W - \overline{x W}

is centered whatever x is, and layer normalization of it is root-mean-square normalization. One reduction less a step
in the forward loop and one less in the backward loop; the gradient of W is centered where ``prepare`` is transposed.
"""

import dataclasses
from typing import final

import jax.numpy as jnp

from jaxnorm._typing import Array, Bool, DTypeLike, Float
from jaxnorm.norms.base import Normalizer, Params, Stateless, Stats
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.layer_norm import LayerNorm
from jaxnorm.norms.rms_norm import RMSNorm


def after_centering(norm: Normalizer) -> Normalizer:
    """The normalizer that a centered product needs: RMSNorm for LayerNorm, with the same weights."""
    if isinstance(norm, LayerNorm) and _centers(norm):
        return RMSNorm(norm.axis, epsilon=norm.epsilon, use_scale=norm.use_scale, use_bias=norm.use_bias)
    return norm


@final
@dataclasses.dataclass(frozen=True)
class Uncentered(Stateless):
    """Layer normalization that subtracts the mean itself: for products that a centered kernel does not center."""

    norm: LayerNorm

    def param_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the layer normalization."""
        return self.norm.param_shape(shape)

    def init(self, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Params:
        """The weights of the layer normalization."""
        return self.norm.init(shape, dtype)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies the layer normalization."""
        return self.norm(params, x, stats, where)

    def check_site(self, caller: str) -> None:
        """As for the layer normalization."""
        self.norm.check_site(caller)


def uncentered(norm: Normalizer) -> Normalizer:
    """The same normalizer, for products of kernels that are not to be centered."""
    return Uncentered(norm) if isinstance(norm, LayerNorm) and _centers(norm) else norm


def center(norm: Normalizer, groups: tuple[int, ...], kernel: Float[Array, "*I GH"]) -> Float[Array, "*I GH"]:
    """A kernel (or bias) without its mean over each group of gates, where the normalizer after it takes that away."""
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
    """Whether a normalizer subtracts a mean over the features of each example; not if they lie on several devices."""
    return isinstance(norm, LayerNorm) and norm.axis_name is None
