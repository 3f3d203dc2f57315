"""Classifies images of digits, read row by row, with a normalized LSTM in Flax linen.

    python examples/linen_classifier.py                       BN-LSTM on the digits that come with scikit-learn
    python examples/linen_classifier.py --cell ln_lstm        LN-LSTM: the same code, with no statistics to keep
    python examples/linen_classifier.py --data FOLDER         MNIST: a folder with the four idx .gz files
    python examples/linen_classifier.py --out FOLDER          keeps the checkpoint there

Trains with optax, evaluates with running and with population statistics, saves and restores with orbax.
Needs the extra jaxnorm[examples].
"""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import optax
from classifier_support import (
    CLASSES,
    load,
    make_cell,
    options,
    probe_batches,
    random_batches,
    report_equal,
    saved_and_restored,
)
from flax import linen as nn

import jaxnorm
from jaxnorm.linen import RNN, population


class Classifier(nn.Module):
    cell: jaxnorm.Cell

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        outputs = RNN(self.cell, name="rnn")(images, use_running_average=not train)
        return nn.Dense(CLASSES)(outputs[:, -1])


# ---- state: all that batch normalization asks for


@partial(jax.jit, static_argnames=("model", "optimizer"))
def train_step(model: Any, optimizer: Any, variables: Any, state: Any, images: Any, labels: Any) -> Any:
    """One step: the gradient of the weights, and the running statistics after this batch."""

    def loss(params: Any) -> Any:
        given = {**variables, "params": params}
        logits, updates = model.apply(given, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

    (value, updates), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    change, state = optimizer.update(gradient, state, variables["params"])
    return {**updates, "params": optax.apply_updates(variables["params"], change)}, state, value


@partial(jax.jit, static_argnames="model")
def accuracy(model: Classifier, variables: Any, images: Any, labels: Any) -> Any:
    return (model.apply(variables, images, train=False).argmax(axis=-1) == labels).mean()


# ---- the program


def main(argv: Sequence[str] | None = None) -> int:
    args = options(__doc__.splitlines()[0], argv)
    try:
        images, labels, test_images, test_labels = load(args.data)
    except (OSError, ValueError) as error:
        print(f"linen_classifier: cannot read the data: {error}", file=sys.stderr)
        return 2
    rows = images.shape[1]
    model = Classifier(make_cell(args.cell, args.hidden, rows))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    variables = jax.jit(lambda key: model.init(key, images[:2], train=False))(jax.random.key(0))
    state = optimizer.init(variables["params"])
    for step, batch in enumerate(random_batches(len(labels), args), start=1):
        variables, state, loss = train_step(model, optimizer, variables, state, images[batch], labels[batch])
        if step % max(1, args.steps // 5) == 0:
            print(f"step {step:5d}  loss {float(loss):.3f}")

    print(f"test accuracy, running statistics     {float(accuracy(model, variables, test_images, test_labels)):.3f}")
    if "batch_stats" in variables:
        batches = probe_batches(images, args.batch)
        better = population(model, variables, batches, ddof=0, train=True)  # the average over batches, weights frozen
        print(f"test accuracy, population statistics  {float(accuracy(model, better, test_images, test_labels)):.3f}")

    return report_equal(variables, saved_and_restored(variables, args.out))


if __name__ == "__main__":
    sys.exit(main())
