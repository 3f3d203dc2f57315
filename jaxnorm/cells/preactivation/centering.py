r"""Normalization of a product without computing its mean: center the kernel instead, once a sequence.

The mean over the outputs of :math:`x W` is x times the mean over the columns of W. Subtract that column mean from W:

.. math:: x (W - \bar W) = x W - \overline{x W}

is centered for every x, so a normalizer that subtracts the mean of the features need not: layer normalization reduces
to root-mean-square normalization. Each step saves one reduction in the forward loop and one in the backward loop. The
transpose of ``prepare`` centers the gradient of W.
"""

import jax.numpy as jnp

from jaxnorm._base.typing import Array, Float
from jaxnorm.cells.preactivation.layout import group_slices
from jaxnorm.norms.base import Normalizer, Reducible
from jaxnorm.norms.core.moments import statistics_dtype


def center(groups: tuple[int, ...], kernel: Float[Array, "*I GH"]) -> Float[Array, "*I GH"]:
    """Subtracts a kernel's (or bias's) mean over each group of gates."""
    wide = kernel.astype(statistics_dtype(kernel.dtype))
    parts = [wide[..., part] for part in group_slices(groups, kernel.shape[-1] // sum(groups))]
    centered = [part - jnp.mean(part, axis=-1, keepdims=True) for part in parts]
    return jnp.concatenate(centered, axis=-1).astype(kernel.dtype)


def center_gates(groups: tuple[int, ...], kernel: Float[Array, "*I G H"]) -> Float[Array, "*I G H"]:
    """The same for gates on an axis of their own."""
    wide = kernel.astype(statistics_dtype(kernel.dtype))
    parts = [wide[..., part, :] for part in group_slices(groups, 1)]
    centered = [part - jnp.mean(part, axis=(-2, -1), keepdims=True) for part in parts]
    return jnp.concatenate(centered, axis=-2).astype(kernel.dtype)


def subtracts_mean(norm: Normalizer) -> bool:
    """Whether a normalizer says that it subtracts the mean over the features, all of them on one device."""
    return isinstance(norm, Reducible) and norm.subtracts_feature_mean


def after_centering(norm: Normalizer) -> Normalizer:
    """Returns the normalizer of the product of a centered kernel, which has no mean to subtract."""
    return norm.without_mean() if isinstance(norm, Reducible) and norm.subtracts_feature_mean else norm
