"""The attentive reader: a reader of the story, a reader of the question, and attention between them.

Hermann et al., Teaching Machines to Read and Comprehend, 2015, section 3.2; with the norms of Cooijmans et al., 2017,
section 5.4: sequence-wise ones on the input products of the cells, and one on each term of the attention's tanh.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.babi import Questions, Stories
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial


class Encoder(NamedTuple):
    """One reader in both directions: its weights, its statistics, or the moments that it measured."""

    cells: jn.Directions
    inputs: jn.Directions
    """Of the sequence-wise norms of the input products."""


class Params(NamedTuple):
    """Weights of the whole reader."""

    embedding: jax.Array  # (V, E)
    story: Encoder
    question: Encoder
    attention: tuple[jax.Array, jax.Array]  # of the outputs of the story and of the question, (2H, A)
    attention_norms: tuple[Any, Any]
    attention_bias: jax.Array  # (A,)
    score: jax.Array  # (A,)
    joint: tuple[jax.Array, jax.Array]  # of what was read and of the question, (2H, A)
    joint_bias: jax.Array  # (A,)
    answer: jax.Array  # (A, answers)
    answer_bias: jax.Array  # (answers,)


class Memory(NamedTuple):
    """Statistics: running ones, or the moments that were measured."""

    story: Any
    question: Any
    attention: tuple[Any, Any]


@dataclasses.dataclass(frozen=True)
class Reader:
    r"""What tells readers apart.

    .. math::
       m_t = \tanh(N(y_t W_y) + N(u W_u) + b), \qquad \alpha = \text{softmax}_t(m_t \cdot w), \qquad
       r = \sum_t \alpha_t y_t, \qquad g = \tanh(r V_r + u V_u + d)

    with the outputs y of the story's reader, and the last outputs u of the question's reader in both directions. The
    answer is the softmax of an affine function of g.
    """

    story: jn.Cell
    question: jn.Cell
    inputs: Any = jn.Identity()
    """The norm of the cells' input products over all real steps together."""
    terms: Any = jn.Identity()
    """The norm N of each term of the attention's tanh."""

    def init(self, key: jax.Array, symbols: int, answers: int, features: int) -> tuple[Params, Memory]:
        """Fresh weights; the cells have kernels and a bias."""
        keys = iter(jax.random.split(key, 11))
        size = self.story.hidden_features
        dense, two = jax.nn.initializers.lecun_normal(), 2 * size
        params = Params(
            embedding=jax.random.normal(next(keys), (symbols, features)),
            story=self._encoder(self.story, next(keys), features),
            question=self._encoder(self.question, next(keys), features),
            attention=(dense(next(keys), (two, size)), dense(next(keys), (two, size))),
            attention_norms=(self.terms.init((size,)), self.terms.init((size,))),
            attention_bias=jnp.zeros(size),
            score=dense(next(keys), (size, 1))[:, 0],
            joint=(dense(next(keys), (two, size)), dense(next(keys), (two, size))),
            joint_bias=jnp.zeros(size),
            answer=dense(next(keys), (size, answers)),
            answer_bias=jnp.zeros(answers),
        )
        terms = (self.terms.initial_stats((size,)), self.terms.initial_stats((size,)))
        return params, Memory(self._statistics(self.story), self._statistics(self.question), terms)

    def _encoder(self, cell: jn.Cell, key: jax.Array, features: int) -> Encoder:
        cells = jn.Directions(*(cell.init(k, features) for k in jax.random.split(key)))
        return Encoder(cells, jn.Directions(*(self.inputs.init((p.kernel[0].size,)) for p in cells)))

    def _statistics(self, cell: jn.Cell) -> Encoder:
        size = 4 * cell.hidden_features
        return Encoder(
            jn.Directions(cell.initial_stats(), cell.initial_stats()),
            jn.Directions(*(self.inputs.initial_stats((size,)) for _ in range(2))),
        )

    def __call__(
        self, params: Params, story: Any, question: Any, stats: Memory | None = None
    ) -> tuple[jax.Array, jax.Array, Memory]:
        """Logits (B, answers), alignments (T, B), and the moments that were measured."""
        given = Memory(None, None, (None, None)) if stats is None else stats
        read, real, _, seen_story = self._read(self.story, params.story, params.embedding, story, given.story)
        _, _, u, seen_question = self._read(self.question, params.question, params.embedding, question, given.question)
        (of_story, of_question), (norm_story, norm_question) = params.attention, params.attention_norms
        left, seen_left = self.terms(norm_story, read @ of_story, given.attention[0], real)
        right, seen_right = self.terms(norm_question, u @ of_question, given.attention[1], None)
        m = jnp.tanh(left + right + params.attention_bias)
        alignment = jax.nn.softmax(m @ params.score, axis=0, where=real[..., 0])
        summary = jnp.einsum("tb,tbh->bh", alignment, read)
        g = jnp.tanh(summary @ params.joint[0] + u @ params.joint[1] + params.joint_bias)
        logits = g @ params.answer + params.answer_bias
        return logits, alignment, Memory(seen_story, seen_question, (seen_left, seen_right))

    def _read(
        self, cell: jn.Cell, params: Encoder, embedding: jax.Array, sentences: Any, stats: Encoder | None
    ) -> tuple[jax.Array, jax.Array, jax.Array, Encoder]:
        """Outputs (T, B, 2H), the mask of real steps (T, B, 1), the last outputs (B, 2H), moments."""
        ids, lengths = sentences
        xs = embedding[ids.T]
        real = (jnp.arange(len(xs))[:, None] < lengths)[..., None]
        running = (None, None) if stats is None else stats.inputs
        parts = zip(params.cells, params.inputs, running, strict=True)
        folded, seen = zip(*(fold(self.inputs, affine, own, xs, real, s) for own, affine, s in parts), strict=True)
        out = jn.bidirectional(
            (cell, cell),
            folded,
            xs,
            lengths=lengths,
            stats=None if stats is None else stats.cells,
            masked_outputs="hold",
        )
        forward, backward = jnp.split(out.outputs, 2, axis=-1)
        last = jnp.concatenate([forward[-1], backward[0]], axis=-1)  # held since the last real step
        return out.outputs, real, last, Encoder(out.moments, jn.Directions(*seen))

    def update_running(self, stats: Memory, seen: Memory) -> Memory:
        """Folds measured moments into running statistics."""

        def fold_in(cell: jn.Cell, old: Encoder, new: Encoder) -> Encoder:
            return Encoder(
                jn.Directions(*map(cell.update_running, old.cells, new.cells)),
                jn.Directions(*map(self.inputs.update_running, old.inputs, new.inputs)),
            )

        return Memory(
            fold_in(self.story, stats.story, seen.story),
            fold_in(self.question, stats.question, seen.question),
            (
                self.terms.update_running(stats.attention[0], seen.attention[0]),
                self.terms.update_running(stats.attention[1], seen.attention[1]),
            ),
        )


def fold(norm: Any, affine: Any, params: Any, xs: jax.Array, where: jax.Array, stats: Any = None) -> tuple[Any, Any]:
    r"""Moves a norm of x W over the whole sequence into kernel and bias: it is affine once its statistics are known.

    .. math:: N(x W) + b = x (W \odot s) + (b + N(0)), \qquad s = N(1) - N(0)

    Returns weights of a cell without a norm at its input, and the moments.
    """
    if isinstance(norm, jn.Identity):
        return params, ()
    products = jnp.einsum("tbi,ij->tbj", xs, params.kernel.reshape(len(params.kernel), -1))
    _, moments = norm(affine, products, stats, where)
    zero, one = norm(affine, jnp.stack([jnp.zeros_like(products[0, 0]), jnp.ones_like(products[0, 0])]), moments)[0]
    kernel = params.kernel * (one - zero).reshape(params.kernel.shape[1:])
    return params._replace(kernel=kernel, bias=params.bias + zero), moments


def trial(reader: Reader, scale: Scale, stories: Stories) -> Trial:
    """Trains on questions; validates on a part that is fixed, tests once population statistics have been taken anew."""
    places = Shuffled(len(stories.train.answer), scale.batch)
    some = np.random.default_rng(0).permutation(len(stories.valid.answer))[: scale.validation]
    valid = stories.valid.take(some)

    def loss(params: Params, memory: Memory, batch: Questions, key: jax.Array) -> tuple[jax.Array, Loss]:
        logits, _, seen = reader(params, batch.story, batch.question)
        return _nats(logits, batch.answer).mean(), Loss(reader.update_running(memory, seen), {})

    @jax.jit  # always for as many questions as valid has, so that it compiles once
    def answer(params: Params, memory: Memory, part: Questions) -> tuple[jax.Array, jax.Array, jax.Array]:
        logits, alignment, _ = reader(params, part.story, part.question, memory)
        return logits.argmax(-1), _nats(logits, part.answer), alignment

    def figures(params: Params, memory: Memory, questions: Questions, name: str) -> dict[str, Any]:
        count, size = len(questions.answer), len(valid.answer)
        errors, nats = [], []
        for start in range(0, count, size):
            part = questions.take(np.arange(start, start + size) % count)
            said, lost, _ = answer(params, memory, part)
            errors.append((said != part.answer)[: count - start])
            nats.append(lost[: count - start])
        return {f"{name}_error": jnp.concatenate(errors).mean(), f"{name}_nats": jnp.concatenate(nats).mean()}

    measure = jax.jit(lambda params, batch: reader(params, batch.story, batch.question)[2])

    def population(params: Params, memory: Memory) -> Memory:
        if not jax.tree.leaves(memory):
            return memory
        drawn = (stories.train.take(places(10_000, k)) for k in range(scale.population))
        found: Memory = jn.population([measure(params, batch) for batch in drawn], ddof=0)
        return found

    def alignments(params: Params, memory: Memory) -> dict[str, Any]:
        said, _, alignment = answer(params, memory, valid)
        words, answers, shown = np.array(stories.symbols), np.array(stories.answers), valid.take(slice(3))
        return {
            "alignment": alignment.T[:3],
            "story": words[shown.story.ids],
            "lengths": shown.story.lengths,
            "question": [" ".join(words[ids[:n]]) for ids, n in zip(*shown.question, strict=True)],
            "answer": answers[shown.answer],
            "said": answers[said[:3]],
        }

    return Trial(
        init=lambda key: reader.init(key, len(stories.symbols), len(stories.answers), scale.features),
        batch=lambda seed, step: stories.train.take(places(seed, step)),
        loss=loss,
        evaluate=lambda params, memory: figures(params, memory, valid, "valid"),
        test=lambda params, memory: figures(params, population(params, memory), stories.test, "test"),
        artifacts=alignments,
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate)),
    )


def _nats(logits: jax.Array, answer: jax.Array) -> jax.Array:
    nats: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, answer)
    return nats
