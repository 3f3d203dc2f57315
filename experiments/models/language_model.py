"""A language model: symbols, one-hot or embedded, layers of recurrent cells, a dense readout."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.text import Text, streams
from experiments.harness.batches import Windows
from experiments.harness.claim import Loss, Scale, Trial

BITS = 1 / np.log(2)  # nats to bits


class Params(NamedTuple):
    """Weights of the model."""

    embedding: jax.Array | None
    """(V, E); None where symbols enter one-hot."""
    cells: tuple[Any, ...]
    """Of each layer."""
    highway: Any
    """Of the highway layer below the readout; None without one."""
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


class Memory(NamedTuple):
    """What passes from window to window."""

    carry: Any
    stats: Any


class Model(NamedTuple):
    """The layers of a language model, and how symbols enter and leave."""

    cells: tuple[jn.Cell, ...]
    symbols: int
    embedding: int = 0
    """Features of the embedded symbols; 0 lets them enter one-hot."""
    highway: jn.zoo.Highway | None = None
    """A layer between the cells and the readout. Its normalizer keeps no statistics."""

    def init(self, key: jax.Array) -> Params:
        """Fresh weights."""
        *cell_keys, table_key, highway_key, kernel_key = jax.random.split(key, len(self.cells) + 3)
        sizes = [self.embedding or self.symbols, *(cell.out_features for cell in self.cells)]
        table = 0.1 * jax.random.normal(table_key, (self.symbols, self.embedding)) if self.embedding else None
        return Params(
            embedding=table,
            cells=tuple(cell.init(k, size) for cell, k, size in zip(self.cells, cell_keys, sizes, strict=False)),
            highway=None if self.highway is None else self.highway.init(highway_key, sizes[-1]),
            kernel=jax.nn.initializers.lecun_normal()(kernel_key, (sizes[-1], self.symbols), jnp.float32),
            bias=jnp.zeros((self.symbols,)),
        )

    def begin(self, batch: int) -> tuple[Any, ...]:
        """The carry of each layer before the first symbol."""
        return tuple(cell.initial_carry((batch,)) for cell in self.cells)

    def initial_stats(self) -> tuple[Any, ...]:
        """The running statistics of each layer before any data."""
        return tuple(cell.initial_stats() for cell in self.cells)

    def update_running(self, stats: Any, moments: Any) -> tuple[Any, ...]:
        """Folds the moments of a call into the statistics of each layer."""
        return tuple(c.update_running(old, new) for c, old, new in zip(self.cells, stats, moments, strict=True))

    def deterministic(self) -> "Model":
        """The model as it is evaluated: without dropped units."""
        return self._replace(cells=tuple(map(jn.deterministic, self.cells)))

    def read(
        self,
        params: Params,
        ids: jax.Array,
        carry: Any,
        stats: Any = None,
        key: jax.Array | None = None,
        **options: Any,
    ) -> tuple[jax.Array, jn.Unrolled]:
        """Logits (T, B, V) of the next symbols, and the result of the cells."""
        xs = jax.nn.one_hot(ids, self.symbols) if params.embedding is None else params.embedding[ids]
        out = jn.stack(self.cells, params.cells, xs, carry=carry, stats=stats, key=key, **options)
        ys = out.outputs if self.highway is None else self.highway(params.highway, out.outputs)[0]
        return ys @ params.kernel + params.bias, out


def parameters(model: Model) -> int:
    """The number of weights, without making any."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))))


def trial(
    cells: jn.Cell | Sequence[jn.Cell],
    scale: Scale,
    text: Text,
    evaluation_windows: int = 10,
    *,
    embedding: int = 0,
    highway: jn.zoo.Highway | None = None,
) -> Trial:
    """Trains on windows of ``scale.window`` symbols, the carry handed on for ``scale.windows`` of them.

    Figures: ``valid_bits`` with the statistics that the cells run with at that time; ``test_bits`` at the end, after
    population statistics have been taken anew (recurrent batch normalization, section 4).
    """
    layers = tuple(cells) if isinstance(cells, Sequence) else (cells,)
    model = Model(layers, len(text.symbols), embedding, highway)
    evaluated = model.deterministic()
    window, batch = scale.window, scale.batch
    places = Windows(len(text.train), batch, window, scale.windows)
    steps = np.arange(window + 1)[:, None]
    valid = _windows(text.valid, batch, window, evaluation_windows)
    test = _windows(text.test, batch, window, 4 * evaluation_windows)

    def init(key: jax.Array) -> tuple[Params, Memory]:
        return model.init(key), Memory(model.begin(batch), model.initial_stats())

    def loss(params: Params, memory: Memory, batch: Any, key: jax.Array) -> tuple[jax.Array, Loss]:
        ids, anew = batch
        carry = jax.tree.map(lambda new, old: jnp.where(anew, new, old), model.begin(ids.shape[1]), memory.carry)
        logits, out = model.read(params, ids[:-1], carry, key=None if model == evaluated else key)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]).mean()
        stats = model.update_running(memory.stats, out.moments)
        return nats * BITS, Loss(Memory(out.carry, stats), {})

    @jax.jit
    def bits(params: Params, stats: Any, parts: tuple[jax.Array, jax.Array]) -> jax.Array:
        def one(carry: Any, part: Any) -> tuple[Any, jax.Array]:
            logits, out = evaluated.read(params, part[0], carry, stats)
            return out.carry, optax.softmax_cross_entropy_with_integer_labels(logits, part[1]).mean()

        nats = jax.lax.scan(one, model.begin(parts[0].shape[2]), parts)[1]
        mean: jax.Array = jnp.mean(nats) * BITS
        return mean

    measure = jax.jit(lambda params, ids: evaluated.read(params, ids, model.begin(batch))[1].moments)

    def population(params: Params) -> Any:
        passage = np.arange(scale.windows * window)[:, None]  # whole passages: later steps share the last row
        drawn = (text.train[places(10_000 + k, 0)[0] + passage] for k in range(8))
        return jn.population([measure(params, ids) for ids in drawn], ddof=0)

    def tested(params: Params, memory: Memory) -> dict[str, Any]:
        stats = population(params) if jax.tree.leaves(memory.stats) else memory.stats
        return {"test_bits": bits(params, stats, test), "valid_bits_at_end": bits(params, stats, valid)}

    def next_batch(seed: int, step: int) -> tuple[np.ndarray, np.bool_]:
        starts, anew = places(seed, step)
        return text.train[starts + steps], np.bool_(anew)

    return Trial(
        init=init,
        batch=next_batch,
        loss=loss,
        evaluate=lambda params, memory: {"valid_bits": bits(params, memory.stats, valid)},
        test=tested,
    )


def _windows(ids: np.ndarray, batch: int, window: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = streams(ids, batch, window)
    return inputs[:most], targets[:most]
