"""What weight decay of biases and gains does to an LN-LSTM that has to remember its first input.

    python examples/weight_decay.py

A sequence of 20 steps shows one of eight symbols first and noise symbols after it; the last output has to name it.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxnorm
from jaxnorm.optim import decay_mask

SYMBOLS, LENGTH, BATCH, HIDDEN = 8, 20, 128, 32
RATE, DECAY = 1e-2, 0.1

MASKS: dict[str, Callable[[Any], Any]] = {
    "all weights": lambda params: jax.tree.map(lambda _: True, params),
    "decay_mask": decay_mask,
}


def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One-hot inputs (T, B, S) and the symbols to recall."""
    symbols = jax.random.randint(key, (LENGTH, BATCH), 0, SYMBOLS)
    return jax.nn.one_hot(symbols, SYMBOLS), symbols[0]


@functools.partial(jax.jit, static_argnames=("mask", "steps"))
def train(seed: jax.Array, mask: str, steps: int) -> tuple[jax.Array, jax.Array]:
    """The loss at the end, of a new batch, and the mean gain of the normalizers."""
    cell = jaxnorm.ln_lstm(HIDDEN)
    cell_key, head_key, data_key = jax.random.split(jax.random.key(seed), 3)
    params = {
        "cell": cell.init(cell_key, SYMBOLS),
        "head": {"kernel": 0.1 * jax.random.normal(head_key, (HIDDEN, SYMBOLS)), "bias": jnp.zeros(SYMBOLS)},
    }
    rate = optax.cosine_decay_schedule(RATE, steps)
    optimizer = optax.adamw(rate, weight_decay=DECAY, mask=MASKS[mask])

    def loss(params: Any, key: jax.Array) -> jax.Array:
        xs, symbols = draw(key)
        last = jaxnorm.unroll(cell, params["cell"], xs).outputs[-1]
        logits = last @ params["head"]["kernel"] + params["head"]["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, symbols).mean()

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
        return (optax.apply_updates(params, updates), state), None

    *keys, last_key = jax.random.split(data_key, steps + 1)
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.stack(keys))
    gains = [site.scale for site in params["cell"].norm if site != ()]
    return loss(params, last_key), jnp.concatenate(gains).mean()


def main() -> None:
    """Prints a row for each mask: the median of the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--smoke", action="store_true", help="two steps, to see that it runs")
    options = parser.parse_args()
    steps = 2 if options.smoke else options.steps
    print("| decay of | loss | mean gain |\n|---|---|---|")
    for mask in MASKS:
        runs = [train(jnp.asarray(seed), mask, steps) for seed in range(options.seeds)]
        loss, gain = (jnp.median(jnp.stack(column)) for column in zip(*runs, strict=True))
        print(f"| {mask} | {float(loss):.1e} | {float(gain):.2f} |", flush=True)


if __name__ == "__main__":
    main()
