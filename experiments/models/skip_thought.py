"""Skip-thought vectors: an encoder reads a sentence, two decoders tell the sentence before it and the one after it.

Kiros et al., Skip-Thought Vectors, 2015, section 2. The vector of the sentence is the state with which both decoders
begin; they share the embedding and the readout.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.novels import Novels
from experiments.data.sentences import Padded
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial
from experiments.models import probes

BEFORE, MIDDLE, AFTER = 0, 1, 2


class Params(NamedTuple):
    """Weights of the embedding, the three cells and the readout."""

    embedding: jax.Array  # (V, E)
    encoder: Any
    before: Any
    after: Any
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


def encode(cell: jn.Cell, params: Params, sentences: Padded) -> jax.Array:
    """The vectors (B, H) of sentences (B, T)."""
    last: jax.Array = jn.unroll(
        cell, params.encoder, params.embedding[sentences.ids.T], lengths=sentences.lengths
    ).carry.h
    return last


def decode(
    cell: jn.Cell, own: Any, params: Params, vectors: jax.Array, sentences: Padded
) -> tuple[jax.Array, jax.Array]:
    r"""Nats of sentences given the vectors of their neighbors, summed over words, and the number of words.

    .. math:: -\sum_t \log p(w_t \mid w_{<t}, v)
    """
    ids = sentences.ids.T
    xs = params.embedding[ids[:-1]]
    xs = jnp.concatenate([jnp.zeros_like(xs[:1]), xs])  # nothing stands before the first word
    states = jn.unroll(cell, own, xs, carry=jn.GRUCarry(vectors), lengths=sentences.lengths).outputs
    logits = states @ params.kernel + params.bias
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids)
    real = jnp.arange(len(ids))[:, None] < sentences.lengths
    return jnp.where(real, nats, 0.0).sum(), real.sum()


def nats(
    cell: jn.Cell, params: Params, triples: Padded
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Nats and words of the sentences before and after."""
    before, middle, after = (Padded(triples.ids[:, k], triples.lengths[:, k]) for k in (BEFORE, MIDDLE, AFTER))
    vectors = encode(cell, params, middle)
    return decode(cell, params.before, params, vectors, before), decode(cell, params.after, params, vectors, after)


def trial(cell: jn.Cell, scale: Scale, novels: Novels) -> Trial:
    """Trains on triples; figures are nats a word. The test probes the encoder, too."""
    symbols = len(novels.symbols)
    places = Shuffled(len(novels.train.ids), scale.batch)
    valid = _pieces(novels.valid, scale.batch, scale.validation)[:1]
    test = _pieces(novels.test, scale.batch, scale.validation)

    def init(key: jax.Array) -> tuple[Params, Any]:
        keys = jax.random.split(key, 5)
        embedding = jax.random.normal(keys[0], (symbols, scale.features))
        encoder, before, after = (cell.init(k, scale.features) for k in keys[1:4])
        kernel = jax.nn.initializers.lecun_normal()(keys[4], (scale.hidden, symbols), jnp.float32)
        return Params(embedding, encoder, before, after, kernel, jnp.zeros(symbols)), ()

    def loss(params: Params, memory: Any, triples: Padded, key: jax.Array) -> tuple[jax.Array, Loss]:
        (before, some), (after, others) = nats(cell, params, triples)
        return (before + after) / (some + others), Loss(memory, {})

    @jax.jit
    def summed(params: Params, parts: Padded) -> Any:
        return jax.tree.map(jnp.sum, jax.lax.map(lambda part: nats(cell, params, part), parts))

    def lost(params: Params, pieces: list[Padded], name: str) -> dict[str, Any]:
        sums = [summed(params, piece) for piece in pieces]
        (before, some), (after, others) = jax.tree.map(lambda *parts: sum(parts), *sums)
        return {f"{name}_next_nats": after / others, f"{name}_nats": (before + after) / (some + others)}

    vectors_of = jax.jit(lambda params, sentences: encode(cell, params, sentences))

    def vectors(params: Params, sentences: Padded) -> np.ndarray:
        count, size = len(sentences.ids), scale.probed
        parts = [vectors_of(params, sentences.take(np.arange(k, k + size) % count)) for k in range(0, count, size)]
        return np.concatenate(parts)[:count]

    def tested(params: Params, memory: Any) -> dict[str, Any]:
        found = lost(params, test, "test")
        for name, (sentences, labels) in novels.labeled.items():
            found[f"test_{name}"] = probes.accuracy(vectors(params, sentences), labels)
        if novels.pairs is not None:
            one, other, related, train = novels.pairs
            found["test_SICK"] = probes.relatedness(vectors(params, one), vectors(params, other), related, train)
        return found

    return Trial(
        init=init,
        batch=lambda seed, step: novels.train.take(places(seed, step)),
        loss=loss,
        evaluate=lambda params, memory: lost(params, valid, "valid"),
        test=tested,
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(5.0), optax.adam(rate)),
    )


def _pieces(triples: Padded, batch: int, most: int) -> list[Padded]:
    """Triples in a fixed order, in pieces (most / batch, batch, 3, T): the logits of all at once are large."""
    count = len(triples.ids) // most
    order = np.random.default_rng(0).permutation(len(triples.ids))[: count * most]
    return [triples.take(piece) for piece in order.reshape(count, -1, batch)]
