"""A character model of sentences: trained line by line under masks, asked for sentences of its own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data import lines
from experiments.data.text import Text
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial
from experiments.models import moving_averages
from experiments.models.language_model import Model, Params

POPULATION = 8  # batches that statistics are averaged over
SAMPLES = 32


class Arm(NamedTuple):
    """A way to normalize: what is asked of the cell, of its statistics, and of the order of the data."""

    cell: Any
    """``cell(hidden, steps)``."""
    moving: jn.zoo.MomentumBatchNorm | None = None
    """Training, and inference, with moving averages, in place of population statistics in inference."""
    folded: bool = False


def trial(arm: Arm, scale: Scale, text: Text) -> Trial:
    """Trains on batches of lines of neighboring lengths.

    Figures: ``valid_nats`` of a character, ``test_nats``, and ``test_ended``, the share of sampled sentences that come
    to an end within the longest length.
    """
    end, longest = text.symbols.index("\n"), scale.longest
    parts = [lines.split(ids, end, longest) for ids in (text.train, text.valid, text.test)]
    examples = lines.fold(parts[0]) if arm.folded else parts[0]
    steps = max(map(len, examples)) if arm.folded else longest
    train = lines.pad(examples, end, steps)
    # Lines of all lengths, the same in all arms.
    valid, test = (lines.pad(part[:: max(1, len(part) // scale.lines)], end, longest) for part in parts[1:])
    model = Model((arm.cell(scale.hidden, steps),), len(text.symbols))
    places = Shuffled(len(examples) // scale.batch, 1)

    def init(key: jax.Array) -> tuple[Params, Any]:
        return model.init(key), model.initial_stats()

    def run(params: Params, ids: jax.Array, lengths: jax.Array, stats: Any = None) -> tuple[jax.Array, jn.Unrolled]:
        logits, out = model.read(params, ids.T[:-1], model.begin(len(ids)), stats, lengths=lengths)
        return _nats(logits, ids, lengths), out

    def loss(params: Params, memory: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, Loss]:
        ids, lengths = batch
        if arm.moving is None:
            nats, out = run(params, ids, lengths)
            return nats, Loss(model.update_running(memory, out.moments), {})
        xs = jax.nn.one_hot(ids.T[:-1], model.symbols)
        ys, rows = moving_averages.forward(arm.moving, params.cells[0], xs, lengths, memory[0].summed)
        nats = _nats(ys @ params.kernel + params.bias, ids, lengths)
        return nats, Loss(model.update_running(memory, (memory[0]._replace(summed=rows),)), {})

    measure = jax.jit(lambda params, ids, lengths: run(params, ids, lengths)[1].moments)
    figures = jax.jit(lambda params, stats, part: run(params, part[0], part[1], stats)[0])

    def statistics(params: Params, memory: Any) -> Any:
        """What inference normalizes with."""
        if arm.moving is not None or not jax.tree.leaves(memory):
            return memory
        numbers = np.linspace(0, places.examples - 1, POPULATION).astype(int)  # up to the longest: all rows are seen
        return jn.population([measure(params, *batch_at(number)) for number in numbers])

    def batch_at(number: int) -> tuple[np.ndarray, np.ndarray]:
        first = number * scale.batch + len(examples) % scale.batch  # from the end: the longest lines are in
        chosen = slice(first, first + scale.batch)
        return train.ids[chosen], train.lengths[chosen]

    @jax.jit
    def sample(params: Params, stats: Any) -> jax.Array:
        """Sentences (T, B) that begin with an end and go on as the model says."""
        cell, running = model.cells[0], stats[0] if jax.tree.leaves(stats) else None

        def step(state: Any, key: jax.Array) -> Any:
            carry, ids = state
            carry, y = jn.step(cell, params.cells[0], carry, jax.nn.one_hot(ids, model.symbols), stats=running)
            drawn = jax.random.categorical(key, y @ params.kernel + params.bias)
            return (carry, drawn), drawn

        begin = cell.initial_carry((SAMPLES,)), jnp.full((SAMPLES,), end, jnp.int32)
        return jax.lax.scan(step, begin, jax.random.split(jax.random.key(0), longest))[1]

    def tested(params: Params, memory: Any) -> dict[str, Any]:
        stats = statistics(params, memory)
        ended = (np.asarray(sample(params, stats)) == end).any(axis=0).mean()
        return {"test_nats": figures(params, stats, test), "test_ended": ended}

    def artifacts(params: Params, memory: Any) -> dict[str, Any]:
        ids = np.asarray(sample(params, statistics(params, memory))).T[:3]
        return {"sentences": np.array(["".join(text.symbols[k] for k in row).partition("\n") for row in ids])}

    return Trial(
        init=init,
        batch=lambda seed, step: batch_at(int(places(seed, step)[0])),
        loss=loss,
        evaluate=lambda params, memory: {"valid_nats": figures(params, statistics(params, memory), valid)},
        test=tested,
        artifacts=artifacts,
        steps=scale.steps // 2 if arm.folded else scale.steps,  # a folded example is two lines
    )


def _nats(logits: jax.Array, ids: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean over real characters."""
    each = optax.softmax_cross_entropy_with_integer_labels(logits, ids.T[1:])
    real = jnp.arange(len(each))[:, None] < lengths
    mean: jax.Array = jnp.sum(jnp.where(real, each, 0.0)) / jnp.sum(real)
    return mean
