"""Training of an image classifier: augmented batches, SGD with momentum and weight decay, a falling rate."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from experiments.data.augmentation import crop_and_flip
from experiments.data.images import Images
from experiments.harness.batches import Shuffled
from experiments.harness.claim import Loss, Scale, Trial

MOMENTUM = 0.9


def drops(*shares: float) -> Callable[[float], float]:
    """A schedule: a tenth of the rate at each of some shares of the run."""
    return lambda share: 0.1 ** sum(share >= place for place in shares)


def cosine(share: float) -> float:
    """A schedule: half a cosine from one to zero."""
    return 0.5 * (1 + math.cos(math.pi * share))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "at 81, 122, 164 of 200": drops(0.405, 0.61, 0.82),  # ResNets on CIFAR-10
    "at each quarter": drops(0.25, 0.5, 0.75),
}


def sgd(rate: Any, decay: float, *, mask: Any = None, clip: float | None = None) -> optax.GradientTransformation:
    """Momentum on gradients that are clipped first, and to which the decay is added (no decay of its own)."""
    return optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        optax.add_decayed_weights(decay, mask=mask),
        optax.sgd(rate, momentum=MOMENTUM),
    )


def head(params: Any) -> Any:
    """A mask: the last layer alone."""
    return {name: jax.tree.map(lambda _, name=name: name == "head", layer) for name, layer in params.items()}


def trial(
    model: nn.Module,
    scale: Scale,
    data: Images,
    optimizer: Callable[[Any], optax.GradientTransformation],
    *,
    loss_scale: float = 1.0,
) -> Trial:
    """Trains ``model(images, train)``; its variables are ``params`` and ``batch_stats``.

    With a ``loss_scale`` gradients are that much larger on their way back, which low precision needs, and no other.
    """
    places = Shuffled(len(data.train[0]), scale.batch)

    @jax.jit
    def begin(key: jax.Array) -> tuple[Any, Any]:
        variables = model.init(key, data.train[0][:2], train=False)
        return variables["params"], variables.get("batch_stats", {})

    def nats(logits: jax.Array, labels: jax.Array) -> jax.Array:
        mean: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return mean

    def loss(params: Any, memory: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, Loss]:
        images, labels = batch
        logits, updates = model.apply(
            {"params": params, "batch_stats": memory}, images, train=True, mutable=["batch_stats"]
        )
        value = nats(logits, labels)
        return value * loss_scale, Loss(updates.get("batch_stats", {}), {"train_loss": value})

    @jax.jit
    def figures(params: Any, memory: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = model.apply({"params": params, "batch_stats": memory}, images, train=False)
        return (logits.argmax(-1) != labels).mean(), nats(logits, labels)

    def evaluate(params: Any, memory: Any) -> dict[str, Any]:
        error, value = figures(params, memory, *data.valid)
        return {"valid_error": error, "valid_loss": value}

    def next_batch(seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = places(seed, step)
        return crop_and_flip(data.train[0][chosen], np.random.default_rng((seed, step, 1))), data.train[1][chosen]

    def unscaled(rate: Any) -> optax.GradientTransformation:
        return optax.chain(optax.scale(1 / loss_scale), optimizer(rate))

    return Trial(
        init=begin,
        batch=next_batch,
        loss=loss,
        evaluate=evaluate,
        test=lambda params, memory: {"test_error": figures(params, memory, *data.test)[0]},
        optimizer=optimizer if loss_scale == 1.0 else unscaled,
        schedule=SCHEDULES[scale.schedule],
    )
