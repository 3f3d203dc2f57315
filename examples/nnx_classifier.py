"""Classifies images of digits, read row by row, with a normalized LSTM in Flax NNX.

    python examples/nnx_classifier.py                       BN-LSTM on the digits that come with scikit-learn
    python examples/nnx_classifier.py --cell ln_lstm        LN-LSTM: the same code, with no statistics to keep
    python examples/nnx_classifier.py --data FOLDER         MNIST: a folder with the four idx .gz files
    python examples/nnx_classifier.py --out FOLDER          keeps the checkpoint there

Trains with optax, evaluates with running and with population statistics, saves and restores with orbax.
Needs the extra jaxnorm[examples].
"""

import sys
from collections.abc import Sequence
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
from flax import nnx

import jaxnorm
from jaxnorm.nnx import RNN, population


class Classifier(nnx.Module):
    def __init__(self, cell: jaxnorm.Cell, features: int, *, rngs: nnx.Rngs) -> None:
        self.rnn = RNN(cell, features, rngs=rngs)
        self.dense = nnx.Linear(cell.hidden_features, CLASSES, rngs=rngs)

    def __call__(self, images: Any) -> Any:
        return self.dense(self.rnn(images)[:, -1])


# ---- state: all that batch normalization asks for


@nnx.jit
def train_step(model: Classifier, optimizer: nnx.Optimizer[Any], images: Any, labels: Any) -> Any:
    """One step: gradients of nnx.Param, and running statistics (nnx.BatchStat), which the module updates itself."""

    def loss(model: Classifier) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


def accuracy(model: Classifier, images: Any, labels: Any) -> float:
    """Uses running statistics. The function closes over the module, so evaluation writes nothing."""
    model.eval()
    hits = jax.jit(lambda images: model(images).argmax(axis=-1) == labels)(images)
    model.train()
    return float(hits.mean())


# ---- the program


def main(argv: Sequence[str] | None = None) -> int:
    args = options(__doc__.splitlines()[0], argv)
    try:
        images, labels, test_images, test_labels = load(args.data)
    except (OSError, ValueError) as error:
        print(f"nnx_classifier: cannot read the data: {error}", file=sys.stderr)
        return 2
    _, rows, features = images.shape
    cell = make_cell(args.cell, args.hidden, rows)
    model = Classifier(cell, features, rngs=nnx.Rngs(0))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for step, batch in enumerate(random_batches(len(labels), args), start=1):
        loss = train_step(model, optimizer, images[batch], labels[batch])
        if step % max(1, args.steps // 5) == 0:
            print(f"step {step:5d}  loss {float(loss):.3f}")

    print(f"test accuracy, running statistics     {accuracy(model, test_images, test_labels):.3f}")
    if jax.tree.leaves(nnx.state(model, nnx.BatchStat)):
        better = nnx.clone(model)
        population(better, probe_batches(images, args.batch), ddof=0)  # the average over batches, the weights frozen
        print(f"test accuracy, population statistics  {accuracy(better, test_images, test_labels):.3f}")

    fresh = Classifier(cell, features, rngs=nnx.Rngs(9))
    nnx.update(fresh, saved_and_restored(nnx.to_pure_dict(nnx.state(model)), args.out))
    return report_equal(nnx.state(model), nnx.state(fresh))


if __name__ == "__main__":
    sys.exit(main())
