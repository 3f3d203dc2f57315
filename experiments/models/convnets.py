"""Convolutional networks for small images, as Flax modules: a residual network and a plain one."""

from typing import Any

import flax.linen as nn
import jax

import jaxnorm as jn
from jaxnorm.linen import Norm, Reparametrized

CLASSES = 10


class ResNet(nn.Module):
    """He, Zhang, Ren, Sun 2016, section 4.2: three stages, each twice as wide as the one before and half as high.

    With one block a stage it has seven convolutions 3 x 3, besides two of 1 x 1 where a stage changes the shape.
    """

    width: int
    norm: jn.Normalizer
    weights: jn.WeightNormalizer | None = None
    """Normalizes the kernels of the convolutions."""
    blocks: int = 1
    """Blocks a stage, of two convolutions each."""
    stride: int = 1
    """The stride of the first convolution."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images (N, H, W, C) to logits (N, 10)."""

        def convolution(x: jax.Array, features: int, window: int, stride: int) -> jax.Array:
            start = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
            layer: Any = nn.Conv(features, (window, window), stride, use_bias=False, kernel_init=start)
            if self.weights is not None:
                layer = Reparametrized(layer, self.weights)
            return Norm(self.norm)(layer(x), use_running_average=not train)

        x = nn.relu(convolution(x, self.width, 3, self.stride))
        for stage in range(3):
            for block in range(self.blocks):
                features, stride = self.width * 2**stage, 2 if stage and not block else 1
                inner = nn.relu(convolution(x, features, 3, stride))
                inner = convolution(inner, features, 3, 1)
                shortcut = convolution(x, features, 1, stride) if x.shape != inner.shape else x
                x = nn.relu(inner + shortcut)
        return nn.Dense(CLASSES, name="head")(x.mean(axis=(1, 2)))


class VGG(nn.Module):
    """Simonyan, Zisserman 2015, with a normalizer after each convolution and one dense layer at the end.

    Initial kernels are uniform with a variance of a third of one over the inputs, as in PyTorch.
    """

    stages: tuple[tuple[int, ...], ...]
    """Features of the convolutions 3 x 3; a maximum over 2 x 2 follows each stage."""
    norm: jn.Normalizer

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Images (N, H, W, C) to logits (N, 10)."""
        start = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        for stage in self.stages:
            for features in stage:
                x = nn.Conv(features, (3, 3), use_bias=False, kernel_init=start)(x)
                x = nn.relu(Norm(self.norm)(x, use_running_average=not train))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(CLASSES, kernel_init=start, name="head")(x.mean(axis=(1, 2)))
