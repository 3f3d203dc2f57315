"""Classifies images of digits, read row by row, with a normalized LSTM in Flax NNX.

    python examples/nnx_classifier.py                       BN-LSTM on the digits that scikit-learn carries
    python examples/nnx_classifier.py --cell ln_lstm        LN-LSTM: the same code, with no statistics to keep
    python examples/nnx_classifier.py --data FOLDER         MNIST: a folder with the four idx .gz files
    python examples/nnx_classifier.py --out FOLDER          keeps the checkpoint there

Trains with optax, evaluates with running and with population statistics, saves and restores with orbax.
Needs the extra jaxnorm[examples].
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

import jaxnorm
from jaxnorm.nnx import RNN

CLASSES = 10


def load(folder: Path | None) -> list[np.ndarray]:
    """Images as sequences of rows in [0, 1], and labels: training, then test."""
    if folder is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int32)
        order = np.random.default_rng(0).permutation(len(labels))
        images, labels = images[order], labels[order]
        return [images[:1500], labels[:1500], images[1500:], labels[1500:]]
    files = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}. Pass a folder with the files of MNIST.")
    arrays = []
    for name in files:
        data = gzip.decompress((folder / name).read_bytes())
        axes = data[3]  # the fourth byte says how many; their sizes follow, four bytes each
        shape = np.frombuffer(data, ">i4", axes, 4)
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
        arrays.append((values / 255).astype(np.float32) if axes == 3 else values.astype(np.int32))
    return arrays


def make_cell(name: str, hidden: int, rows: int, momentum: float = 0.9) -> jaxnorm.Cell:
    """The cell; a BN-LSTM has one row of statistics for each row of the image."""
    if name == "bn_lstm":
        return jaxnorm.bn_lstm(hidden, max_steps=rows, momentum=momentum)
    return jaxnorm.ln_lstm(hidden)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=("bn_lstm", "ln_lstm"), default="bn_lstm")
    parser.add_argument("--steps", type=positive, default=400, help="number of training steps (batches)")
    parser.add_argument("--hidden", type=positive, default=64, help="hidden features")
    parser.add_argument("--batch", type=positive, default=64, help="images in a batch")
    parser.add_argument("--data", type=Path, help="folder with MNIST; the digits of scikit-learn if left out")
    parser.add_argument("--out", type=Path, help="folder of the checkpoint; a temporary one if left out")
    parser.add_argument("--smoke", action="store_true", help="a few steps of a small model, to see that all works")
    args = parser.parse_args(argv)
    if args.smoke:
        args.steps, args.hidden = min(args.steps, 20), min(args.hidden, 8)
    return args


class Classifier(nnx.Module):
    def __init__(self, cell: jaxnorm.Cell, features: int, *, rngs: nnx.Rngs) -> None:
        self.rnn = RNN(cell, features, return_carry=True, rngs=rngs)
        self.dense = nnx.Linear(cell.hidden_features, CLASSES, rngs=rngs)

    def __call__(self, images: Any) -> Any:
        carry, _ = self.rnn(images)
        return self.dense(carry.h)


# ---- state: all that batch normalization asks for


@nnx.jit
def train_step(model: Classifier, optimizer: nnx.Optimizer[Any], images: Any, labels: Any) -> Any:
    """One step: gradients of nnx.Param, and running statistics (nnx.BatchStat) that move by themselves."""

    def loss(model: Classifier) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


def with_population_statistics(model: Classifier, probe: Classifier, batches: Any) -> Classifier:
    """A copy of the model with statistics averaged over many batches, the weights frozen.

    ``probe`` has momentum 0: what it leaves in its statistics is exactly what it measured in the batch.
    """
    nnx.update(probe, nnx.state(model, nnx.Param))

    @nnx.jit
    def measure(probe: Classifier, images: Any) -> Any:
        probe(images)
        sites = nnx.to_pure_dict(nnx.state(probe.rnn.norm, nnx.BatchStat))
        return {site: jaxnorm.Moments(**stats) for site, stats in sites.items()}

    sites = jaxnorm.population((measure(probe, images) for images in batches), ddof=0)
    copy = nnx.clone(model)
    nnx.update(copy.rnn.norm, {site: moments._asdict() for site, moments in sites.items()})
    return copy


def accuracy(model: Classifier, images: Any, labels: Any) -> float:
    """With running statistics. The module is closed over: evaluation writes nothing."""
    model.eval()
    hits = jax.jit(lambda images: model(images).argmax(axis=-1) == labels)(images)
    model.train()
    return float(hits.mean())


# ---- the program


def main(argv: Sequence[str] | None = None) -> int:
    args = options(argv)
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
    draw = np.random.default_rng(1)
    for step in range(1, args.steps + 1):
        batch = draw.choice(len(labels), min(args.batch, len(labels)), replace=False)
        loss = train_step(model, optimizer, images[batch], labels[batch])
        if step % max(1, args.steps // 5) == 0:
            print(f"step {step:5d}  loss {float(loss):.3f}")

    print(f"test accuracy, running statistics     {accuracy(model, test_images, test_labels):.3f}")
    if jax.tree.leaves(nnx.state(model, nnx.BatchStat)):
        probe = Classifier(make_cell(args.cell, args.hidden, rows, momentum=0.0), features, rngs=nnx.Rngs(0))
        batches = (jnp.asarray(images[k : k + args.batch]) for k in range(0, min(len(images), 1024), args.batch))
        better = with_population_statistics(model, probe, batches)
        print(f"test accuracy, population statistics  {accuracy(better, test_images, test_labels):.3f}")

    state = nnx.to_pure_dict(nnx.state(model))
    with tempfile.TemporaryDirectory() as scratch, ocp.StandardCheckpointer() as checkpointer:
        path = (args.out or Path(scratch)).resolve() / "state"
        checkpointer.save(path, state, force=True)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, jax.tree.map(jnp.zeros_like, state))
    fresh = Classifier(cell, features, rngs=nnx.Rngs(9))
    nnx.update(fresh, restored)
    pairs = zip(jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(fresh)), strict=True)
    equal = all(np.array_equal(a, b) for a, b in pairs)
    print(f"restored from {path if args.out else 'a checkpoint'}: {'equal' if equal else 'NOT EQUAL'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
