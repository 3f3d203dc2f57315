"""A character language model: a recurrent cell between one-hot characters and a dense readout."""

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
    """Weights of the cell and of the readout."""

    cell: Any
    kernel: jax.Array  # (H, V)
    bias: jax.Array  # (V,)


class Memory(NamedTuple):
    """What passes from window to window."""

    carry: Any
    stats: Any


def trial(cell: jn.Cell, scale: Scale, text: Text, evaluation_windows: int = 10) -> Trial:
    """Trains on windows of ``scale.window`` characters, the carry handed on for ``scale.windows`` of them.

    Figures: ``valid_bits`` with the statistics that the cell runs with at that time; ``test_bits`` at the end, after
    population statistics have been taken anew (recurrent batch normalization, section 4).
    """
    symbols, window, batch = len(text.symbols), scale.window, scale.batch
    places = Windows(len(text.train), batch, window, scale.windows)
    steps = np.arange(window + 1)[:, None]
    valid = _windows(text.valid, batch, window, evaluation_windows)
    test = _windows(text.test, batch, window, 4 * evaluation_windows)

    def init(key: jax.Array) -> tuple[Params, Memory]:
        cell_key, kernel_key = jax.random.split(key)
        kernel = jax.nn.initializers.lecun_normal()(kernel_key, (cell.hidden_features, symbols), jnp.float32)
        params = Params(cell.init(cell_key, symbols), kernel, jnp.zeros((symbols,)))
        return params, Memory(cell.initial_carry((batch,)), cell.initial_stats())

    def read(params: Params, ids: jax.Array, carry: Any, stats: Any = None) -> tuple[jax.Array, jn.Unrolled]:
        out = jn.unroll(cell, params.cell, jax.nn.one_hot(ids, symbols), carry=carry, stats=stats)
        return out.outputs @ params.kernel + params.bias, out

    def loss(params: Params, memory: Memory, batch: Any, key: jax.Array) -> tuple[jax.Array, Loss]:
        ids, anew = batch
        fresh = cell.initial_carry((ids.shape[1],))
        carry = jax.tree.map(lambda new, old: jnp.where(anew, new, old), fresh, memory.carry)
        logits, out = read(params, ids[:-1], carry)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[1:]).mean()
        stats = cell.update_running(memory.stats, out.moments)
        return nats * BITS, Loss(Memory(out.carry, stats), {})

    @jax.jit
    def bits(params: Params, stats: Any, parts: tuple[jax.Array, jax.Array]) -> jax.Array:
        def one(carry: Any, part: Any) -> tuple[Any, jax.Array]:
            logits, out = read(params, part[0], carry, stats)
            return out.carry, optax.softmax_cross_entropy_with_integer_labels(logits, part[1]).mean()

        nats = jax.lax.scan(one, cell.initial_carry((parts[0].shape[2],)), parts)[1]
        mean: jax.Array = nats.mean() * BITS
        return mean

    measure = jax.jit(lambda params, ids: read(params, ids, cell.initial_carry((batch,)))[1].moments)

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
