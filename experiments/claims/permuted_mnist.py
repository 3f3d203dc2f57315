"""Permuted MNIST, pixel by pixel: recurrent batch normalization classifies better than the plain LSTM, with gain 0.1.

Claim: BN-LSTM 95.4 % where the LSTM has 90.2 % (test, 784 steps); a gain of 1 makes gradients vanish.
Source: Cooijmans, Ballas, Laurent, Gülçehre, Courville, Recurrent Batch Normalization, ICLR 2017, table 1, section 5.1.
Every arm starts as the published code does: forget bias 1, orthogonal kernels, the identity for the candidate's
recurrent kernel, a learned initial state, and noise on it. The pixels are permuted; the published code draws them with
replacement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm as jn
from experiments.data.images import Images, mnist
from experiments.harness import measures
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Claim, Contrast, Loss, Scale, Trial
from experiments.harness.records import Run
from experiments.models.gradient_flow import hidden_gradient_norms

START: dict[str, Any] = {
    "forget_bias": 1.0,
    "kernel_init": jn.initializers.Joint(jn.initializers.orthogonal),
    "recurrent_init": jn.initializers.cooijmans_identity,
    "learn_carry": True,
    "initial_noise": 0.1,
}
ARMS: dict[str, Callable[[int, int], jn.Cell]] = {
    "LSTM": lambda h, t: jn.lstm(h, **START),
    "BN-LSTM, gain 0.1": lambda h, t: jn.bn_lstm(h, max_steps=t, **START),
    "BN-LSTM, gain 1": lambda h, t: jn.bn_lstm(h, max_steps=t, scale=1.0, **START),
    "LN-LSTM, gain 0.1": lambda h, t: jn.ln_lstm(h, scale=0.1, **START),
    "LN-LSTM, gain 1": lambda h, t: jn.ln_lstm(h, **START),
}
CHANCE = 0.1  # the accuracy of guessing
BLOCK = 500  # images that are evaluated together
CLASSES = 10


class Params(NamedTuple):
    """Weights of the cell and of the readout."""

    cell: Any
    kernel: jax.Array  # (H, 10)
    bias: jax.Array  # (10,)


def sequences(images: np.ndarray, pool: int) -> np.ndarray:
    """Images (N, A, A) as sequences of pixels (N, T): means of ``pool`` x ``pool`` pixels, in one random order."""
    side = images.shape[1] // pool
    pooled = images.reshape(-1, side, pool, side, pool).mean((2, 4)).reshape(-1, side * side)
    return pooled[:, np.random.default_rng(1).permutation(side * side)]


def build(arm: Any, scale: Scale, data: Images) -> Trial:
    """A cell that reads one pixel a step, and a readout of its last state."""
    (train, labels), valid, test = ((sequences(images, scale.pool), labels) for images, labels in data[1:])
    cell: jn.Cell = arm(scale.hidden, train.shape[1])
    places = Shuffled(len(train), scale.batch)

    def init(key: jax.Array) -> tuple[Params, Any]:
        cell_key, kernel_key = jax.random.split(key)
        kernel = jax.nn.initializers.orthogonal()(kernel_key, (cell.hidden_features, CLASSES), jnp.float32)
        return Params(cell.init(cell_key, 1), kernel, jnp.zeros(CLASSES)), cell.initial_stats()

    def read(params: Params, pixels: jax.Array, key: jax.Array, stats: Any = None) -> tuple[jax.Array, jn.Unrolled]:
        out = jn.unroll(cell, params.cell, pixels[..., None], time_axis=1, key=key, stats=stats)
        return out.outputs[:, -1] @ params.kernel + params.bias, out

    def loss(params: Params, stats: Any, examples: Any, key: jax.Array) -> tuple[jax.Array, Loss]:
        pixels, digits = examples
        logits, out = read(params, pixels, key)
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, digits).mean()
        accuracy = (logits.argmax(-1) == digits).mean()
        return nats, Loss(cell.update_running(stats, out.moments), {"train_accuracy": accuracy})

    @jax.jit
    def block_figures(params: Params, stats: Any, pixels: jax.Array, digits: jax.Array, key: jax.Array) -> jax.Array:
        logits = read(params, pixels, key, stats)[0]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, digits)
        return jnp.stack([(logits.argmax(-1) == digits).mean(), nats.mean()])

    def figures(params: Params, stats: Any, part: tuple[np.ndarray, np.ndarray], most: int) -> np.ndarray:
        pixels, digits = part
        size = min(BLOCK, len(digits))
        blocks = range(min(len(digits) // size, most))
        measured = [
            block_figures(params, stats, pixels[k * size :][:size], digits[k * size :][:size], jax.random.key(k))
            for k in blocks
        ]
        return np.mean(measured, axis=0)

    measure = jax.jit(lambda params, pixels, key: read(params, pixels, key)[1].moments)

    def population(params: Params, stats: Any) -> Any:
        if not jax.tree.leaves(stats):
            return stats
        batches = (train[places(10_000, k)] for k in range(scale.population))
        return jn.population([measure(params, batch, jax.random.key(k)) for k, batch in enumerate(batches)], ddof=0)

    def evaluate(params: Params, stats: Any) -> dict[str, Any]:
        accuracy, nats = figures(params, stats, valid, 2)
        return {"valid_accuracy": accuracy, "valid_nats": nats}

    def tested(params: Params, stats: Any) -> dict[str, Any]:
        accuracy, nats = figures(params, population(params, stats), test, len(test[1]))
        return {"test_accuracy": accuracy, "test_nats": nats}

    def next_batch(seed: int, step: int) -> Any:
        chosen = places(seed, step)
        return train[chosen], labels[chosen]

    @jax.jit
    def gradient_norms(params: Params) -> jax.Array:
        def nats(h: jax.Array) -> jax.Array:
            logits = h @ params.kernel + params.bias
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[: scale.batch]).mean()

        pixels = jnp.asarray(train[: scale.batch]).T[..., None]
        return hidden_gradient_norms(cell, params.cell, pixels, nats, key=jax.random.key(0))

    def artifacts(params: Params, stats: Any) -> dict[str, Any]:
        return {"before": gradient_norms(init(jax.random.key(0))[0]), "after": gradient_norms(params)}

    return Trial(
        init=init,
        batch=next_batch,
        loss=loss,
        evaluate=evaluate,
        test=tested,
        artifacts=artifacts,
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(rate, decay=0.9)),
    )


def pictures(runs: Sequence[Run], artifacts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """How much of the gradient arrives at each step, before the training and after it."""
    from matplotlib import pyplot as plt

    from experiments.harness.plots import style

    if not artifacts:
        return {}
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for panel, when in zip(panels, ("before", "after"), strict=True):
        for arm, norms in artifacts.items():
            panel.plot(norms[when], label=arm, **style(list(ARMS), arm))
        panel.set_title(f"{when} training", fontsize=10)
        panel.set_xlabel("step t of the sequence")
        panel.set_yscale("log")
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(r"norm of $\partial\,$loss$\,/\,\partial h_t$, one batch, batch statistics")
    panels[0].legend(frameon=False, fontsize=8)
    return {"gradient_norms.png": figure}


CLAIM = Claim(
    number=7,
    name="permuted_mnist",
    claim="BN-LSTM classifies permuted MNIST better than the LSTM",
    source="Cooijmans et al. 2017, table 1",
    published="test accuracy 90.2 % (LSTM), 95.4 % (BN-LSTM, gain 0.1); with gain 1 it hardly learns",
    arms=ARMS,
    rates=(0.001, 0.0025, 0.006, 0.015),
    seeds=4,
    contrast=Contrast(
        measure=measures.tested("accuracy", CHANCE),
        unit="test accuracy",
        arm="BN-LSTM, gain 0.1",
        baseline="LSTM",
        margin=0.005,
        better="higher",
    ),
    scales={
        "small": Scale(steps=2000, evaluations=20, batch=64, hidden=64, pool=2, population=32),
        "paper": Scale(steps=100_000, evaluations=100, batch=100, hidden=100, pool=1, population=500),
        "smoke": Scale(steps=4, evaluations=2, batch=8, hidden=8, pool=2, population=2),
    },
    smaller="14 x 14 means of 2 x 2 pixels instead of 28 x 28 pixels, so 196 steps instead of 784; 64 features "
    "instead of 100; batch 64 instead of 100; 2.6 epochs instead of 200; a true permutation; noise on the initial "
    "state and RMSProp with decay 0.9 in every arm; validation on 1,000 images",
    load=lambda folder, scale: mnist(folder),
    build=build,
    curve="valid_accuracy",
    curve_label="validation accuracy, running statistics",
    pictures=pictures,
    also={
        "validation area": measures.area("valid_accuracy", CHANCE),
        "test nats": measures.given("test_nats", 2.3),
        "gradient norm, first 5 % of the steps": measures.early("gradient_norm", 0.05),
    },
    undecidable="Dependencies over 784 steps, and where the arms end after 200 epochs: here all of them are still "
    "improving.",
    looked_at="The claim holds, but with gain 1 the BN-LSTM learns here: later than with 0.1, and to more than the "
    "LSTM. The paper explains its failure there by gradients that vanish. Here they explode: before training, the "
    "norm of the gradient of the loss with respect to the hidden state is 0.02 at the 190th step and 400 at the "
    "first, as the second picture shows; with gain 0.1 it is between 0.01 and 0.07 everywhere. Clipping then scales "
    "the gradients of the weights, of norms up to 3,000, down to 1. Layer normalization does not help with either "
    "gain: of one pixel a step, its input product keeps only whether the pixel is black, not how bright it is.",
)
