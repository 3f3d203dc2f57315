"""DRAW: an encoder looks at an image through a window, a decoder paints it through another, glimpse by glimpse."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.images import Binary
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial

BLOCK = 500  # images that are evaluated together


class Dense(NamedTuple):
    """A linear layer."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns x W + b."""
        return x @ self.kernel + self.bias


class Params(NamedTuple):
    """Weights of both cells and of what lies between them, and the canvas before the first glimpse."""

    encoder: Any
    decoder: Any
    latent: Dense
    read: Dense
    write: Dense
    patch: Dense
    canvas: jax.Array  # (A, A)


class Window(NamedTuple):
    """A grid of N x N Gaussian filters on an image of A x A pixels."""

    rows: jax.Array  # (..., N, A)
    columns: jax.Array  # (..., N, A)
    intensity: jax.Array  # (..., 1, 1)


class Decoded(NamedTuple):
    """What passes from glimpse to glimpse behind the latent variables."""

    carry: Any
    h: jax.Array
    canvas: jax.Array


def window(raw: jax.Array, size: int, points: int) -> Window:
    """Reads center, variance, stride and intensity off five numbers (..., 5); filters add up to one over the pixels."""
    center = (size + 1) / 2 * (raw[..., :2] + 1)
    stride = (size - 1) / (points - 1) * jnp.exp(raw[..., 3])
    offsets = jnp.arange(points, dtype=jnp.float32) - (points - 1) / 2
    means = center[..., None] + offsets * stride[..., None, None]  # (..., 2, N): x and y
    distance = jnp.arange(1, size + 1, dtype=jnp.float32) - means[..., None]
    filters = jax.nn.softmax(-(distance**2) / (2 * jnp.exp(raw[..., 2])[..., None, None, None]))
    return Window(filters[..., 1, :, :], filters[..., 0, :, :], jnp.exp(raw[..., 4])[..., None, None])


def read_patch(image: jax.Array, through: Window) -> jax.Array:
    """What lies in a window: (..., N, N) of images (..., A, A)."""
    return through.intensity * (through.rows @ image @ through.columns.mT)


def write_patch(patch: jax.Array, through: Window) -> jax.Array:
    """An image (..., A, A) that holds a patch (..., N, N) in a window."""
    return through.rows.mT @ patch @ through.columns / through.intensity


class Draw(NamedTuple):
    """The network: two cells, and the sizes of images and windows."""

    encoder: jn.Cell
    decoder: jn.Cell
    size: int
    read: int
    write: int
    latent: int

    def init(self, key: jax.Array) -> Params:
        """Draws all weights."""
        keys = jax.random.split(key, 6)
        hidden = self.decoder.hidden_features

        def dense(key: jax.Array, outputs: int) -> Dense:
            kernel = jax.nn.initializers.lecun_normal()(key, (hidden, outputs), jnp.float32)
            return Dense(kernel, jnp.zeros(outputs))

        return Params(
            encoder=self.encoder.init(keys[0], 2 * self.read**2 + hidden),
            decoder=self.decoder.init(keys[1], self.latent),
            latent=dense(keys[2], 2 * self.latent),
            read=dense(keys[3], 5),
            write=dense(keys[4], 5),
            patch=dense(keys[5], self.write**2),
            canvas=jnp.zeros((self.size, self.size)),
        )

    def begin(self, params: Params, batch: int) -> Decoded:
        """The state before the first glimpse."""
        carry = self.decoder.initial_carry((batch,), params=params.decoder)
        return Decoded(carry, carry.h, jnp.broadcast_to(params.canvas, (batch, self.size, self.size)))

    def paint(self, params: Params, state: Decoded, z: jax.Array) -> Decoded:
        """One glimpse of the decoder."""
        carry, h = jn.step(self.decoder, params.decoder, state.carry, z)
        patch = params.patch(h).reshape(-1, self.write, self.write)
        painted = write_patch(patch, window(params.write(h), self.size, self.write))
        return Decoded(carry, h, state.canvas + painted)

    def bound(self, params: Params, images: jax.Array, noise: jax.Array) -> jax.Array:
        """The variational bound of images (B, A, A) in nats (B,), by one sample from noise (T, B, Z)."""

        def glimpse(state: Any, noise: jax.Array) -> tuple[Any, jax.Array]:
            carry, decoded = state
            looked = window(params.read(decoded.h), self.size, self.read)
            seen = (read_patch(part, looked) for part in (images, images - jax.nn.sigmoid(decoded.canvas)))
            inputs = jnp.concatenate([*(part.reshape(len(images), -1) for part in seen), decoded.h], axis=-1)
            carry, h = jn.step(self.encoder, params.encoder, carry, inputs)
            mean, log_deviation = jnp.split(params.latent(h), 2, axis=-1)
            deviation = jnp.exp(log_deviation)
            divergence = (mean**2 + deviation**2 - 1).sum(-1) / 2 - log_deviation.sum(-1)
            return (carry, self.paint(params, decoded, mean + deviation * noise)), divergence

        carry = self.encoder.initial_carry((len(images),), params=params.encoder)
        (_, decoded), divergences = jax.lax.scan(glimpse, (carry, self.begin(params, len(images))), noise)
        missed = optax.sigmoid_binary_cross_entropy(decoded.canvas, images).sum((-2, -1))
        return missed + divergences.sum(0)

    def generate(self, params: Params, noise: jax.Array) -> jax.Array:
        """Images (T, B, A, A) after each glimpse, painted from noise (T, B, Z) alone."""

        def glimpse(state: Decoded, z: jax.Array) -> tuple[Decoded, jax.Array]:
            state = self.paint(params, state, z)
            return state, jax.nn.sigmoid(state.canvas)

        return jax.lax.scan(glimpse, self.begin(params, noise.shape[1]), noise)[1]


def trial(encoder: jn.Cell, decoder: jn.Cell, scale: Scale, data: Binary) -> Trial:
    """Trains on the bound. Figures are nats an image, each by one sample with the same noise in all arms."""
    network = Draw(encoder, decoder, data.train.shape[1], scale.read, scale.write, scale.latent)
    places = Shuffled(len(data.train), scale.batch)

    def noise(key: jax.Array, images: int) -> jax.Array:
        return jax.random.normal(key, (scale.glimpses, images, scale.latent))

    def mean_bound(params: Params, images: jax.Array, key: jax.Array) -> jax.Array:
        return network.bound(params, images, noise(key, len(images))).mean()

    figure = jax.jit(mean_bound)

    def figures(params: Params, images: np.ndarray, most: int) -> np.floating[Any]:
        size = min(BLOCK, len(images))
        blocks = range(min(len(images) // size, most))
        return np.mean([figure(params, images[k * size :][:size], jax.random.key(k)) for k in blocks])

    return Trial(
        init=lambda key: (network.init(key), ()),
        batch=lambda seed, step: data.train[places(seed, step)],
        loss=lambda params, memory, images, key: (mean_bound(params, images, key), Loss(memory, {})),
        evaluate=lambda params, memory: {"valid_bound": figures(params, data.valid, 1)},
        test=lambda params, memory: {"test_bound": figures(params, data.test, len(data.test))},
        artifacts=lambda params, memory: {"drawn": network.generate(params, noise(jax.random.key(0), 10))},
    )
