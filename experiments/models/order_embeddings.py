"""Order-embeddings and symmetric ones, learned from pairs by a margin between true and false partners.

Vendrov, Kiros, Fidler, Urtasun, Order-Embeddings of Images and Language, 2016, section 4. What stands for the image
here is another caption: a recurrent encoder reads both, and an affine map takes the second to where images go.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.captions import EACH, Captions
from experiments.data.sentences import Padded
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial

Likeness = Literal["symmetric", "order"]
MARGIN = 0.05


class Params(NamedTuple):
    """Weights of the encoder, and of the map of images."""

    embedding: jax.Array  # (V, E)
    cell: Any
    kernel: jax.Array  # (H, H)
    bias: jax.Array  # (H,)


def encode(cell: jn.Cell, params: Params, sentences: Padded) -> jax.Array:
    """The last state of each sentence (B, H)."""
    xs = params.embedding[sentences.ids.T]
    last: jax.Array = jn.unroll(cell, params.cell, xs, lengths=sentences.lengths).carry.h
    return last


def place(states: jax.Array, likeness: Likeness) -> jax.Array:
    """Puts states on the unit sphere; for the order on that part of it where nothing is negative."""
    states = jnp.abs(states) if likeness == "order" else states
    return states / jnp.sqrt(jnp.square(states).sum(-1, keepdims=True) + 1e-12)


def score(captions: jax.Array, images: jax.Array, likeness: Likeness) -> jax.Array:
    r"""How well captions (N, H) fit images (M, H), as (N, M).

    .. math:: S_\text{symmetric} = c \cdot i, \qquad S_\text{order} = -\lVert \max(0, c - i) \rVert^2
    """
    if likeness == "symmetric":
        return captions @ images.T
    return -jnp.square(jax.nn.relu(captions[:, None] - images)).sum(-1)


def margin_loss(scores: jax.Array) -> jax.Array:
    r"""What false pairs lack to be a margin below the true ones, on the diagonal.

    .. math:: \sum_k \sum_{l \ne k} \max(0, \alpha - S_{kk} + S_{lk}) + \max(0, \alpha - S_{kk} + S_{kl})
    """
    true = jnp.diagonal(scores)
    lacks = jax.nn.relu(MARGIN - true + scores) + jax.nn.relu(MARGIN - true[:, None] + scores)
    return jnp.where(jnp.eye(len(scores), dtype=bool), 0.0, lacks).sum()


def ranks(scores: jax.Array) -> jax.Array:
    """The rank of the true partner in each row, from 1; among equals the middle."""
    true = jnp.diagonal(scores)[:, None]
    found: jax.Array = 0.5 + (scores > true).sum(1) + 0.5 * (scores == true).sum(1)
    return found


def trial(cell: jn.Cell, likeness: Likeness, scale: Scale, captions: Captions) -> Trial:
    """Trains on two captions of each image, drawn anew at every step; validation takes the first two."""
    places = Shuffled(len(captions.train.ids), scale.batch)

    def init(key: jax.Array) -> tuple[Params, Any]:
        embedding_key, cell_key, kernel_key = jax.random.split(key, 3)
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, (scale.hidden, scale.hidden), jnp.float32)
        embedding = jax.random.normal(embedding_key, (len(captions.symbols), scale.features))
        return Params(embedding, cell.init(cell_key, scale.features), kernel, jnp.zeros(scale.hidden)), ()

    def embed(params: Params, pairs: Padded) -> tuple[jax.Array, jax.Array]:
        states = encode(cell, params, Padded(pairs.ids.reshape(-1, pairs.ids.shape[-1]), pairs.lengths.reshape(-1)))
        first, second = states.reshape(2, -1, states.shape[-1])
        return place(first, likeness), place(second @ params.kernel + params.bias, likeness)

    def loss(params: Params, memory: Any, pairs: Padded, key: jax.Array) -> tuple[jax.Array, Loss]:
        return margin_loss(score(*embed(params, pairs), likeness)), Loss(memory, {})

    @jax.jit
    def figures(params: Params, pairs: Padded) -> dict[str, jax.Array]:
        first, second = embed(params, pairs)
        scores = jax.lax.map(lambda one: score(one[None], second, likeness)[0], first)  # the order takes (N, N, H) else
        both = jnp.stack([ranks(scores), ranks(scores.T)])
        return {"rank": both.mean(), "recall_1": (both < 2).mean(), "recall_10": (both < 11).mean()}

    def retrieve(params: Params, part: Padded, name: str) -> dict[str, Any]:
        pairs = Padded(part.ids[:, :2].swapaxes(0, 1), part.lengths[:, :2].T)
        return {f"{name}_{figure}": value for figure, value in figures(params, pairs).items()}

    def next_batch(seed: int, step: int) -> Padded:
        chosen = places(seed, step)
        drawn = (
            np.random.default_rng((seed, step)).permuted(np.tile(np.arange(EACH), (len(chosen), 1)), axis=1)[:, :2].T
        )
        return captions.train.take((chosen, drawn))

    return Trial(
        init=init,
        batch=next_batch,
        loss=loss,
        evaluate=lambda params, memory: retrieve(params, captions.valid, "valid"),
        test=lambda params, memory: retrieve(params, captions.test, "test"),
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(2.0), optax.adam(rate)),
    )
