"""Classifies images of digits, read row by row, with a normalized LSTM in Flax linen.

    python examples/linen_classifier.py                       BN-LSTM on the digits that scikit-learn carries
    python examples/linen_classifier.py --cell ln_lstm        LN-LSTM: the same code, with no statistics to keep
    python examples/linen_classifier.py --data FOLDER         MNIST: a folder with the four idx .gz files
    python examples/linen_classifier.py --out FOLDER          keeps the checkpoint there

Trains with optax, evaluates with running and with population statistics, saves and restores with orbax.
Needs the extra jaxnorm[examples].
"""

import argparse
import gzip
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn

import jaxnorm
from jaxnorm.linen import RNN

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


class Classifier(nn.Module):
    cell: jaxnorm.Cell

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        rnn = RNN(self.cell, return_carry=True, name="rnn")
        carry, _ = rnn(images, use_running_average=not train)
        return nn.Dense(CLASSES)(carry.h)


# ---- state: all that batch normalization asks for


@partial(jax.jit, static_argnames=("model", "optimizer"))
def train_step(model: Any, optimizer: Any, variables: Any, state: Any, images: Any, labels: Any) -> Any:
    """One step: the gradient of the weights, and the running statistics that the batch moved."""

    def loss(params: Any) -> Any:
        given = {**variables, "params": params}
        logits, updates = model.apply(given, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updates

    (value, updates), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    change, state = optimizer.update(gradient, state, variables["params"])
    return {**updates, "params": optax.apply_updates(variables["params"], change)}, state, value


def population_variables(model: Classifier, variables: Any, batches: Any) -> Any:
    """The variables with statistics averaged over many batches, the weights frozen.

    ``model`` has momentum 0: what it leaves in ``batch_stats`` is exactly what it measured in the batch.
    """

    @jax.jit
    def measure(images: Any) -> Any:
        _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        sites = updates["batch_stats"]["rnn"]["norm"]
        return {site: jaxnorm.Moments(**stats) for site, stats in sites.items()}

    sites = jaxnorm.population(map(measure, batches), ddof=0)
    norm = {site: moments._asdict() for site, moments in sites.items()}
    return {**variables, "batch_stats": {"rnn": {"norm": norm}}}


@partial(jax.jit, static_argnames="model")
def accuracy(model: Classifier, variables: Any, images: Any, labels: Any) -> Any:
    return (model.apply(variables, images, train=False).argmax(axis=-1) == labels).mean()


# ---- the program


def main(argv: Sequence[str] | None = None) -> int:
    args = options(argv)
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
    draw = np.random.default_rng(1)
    for step in range(1, args.steps + 1):
        batch = draw.choice(len(labels), min(args.batch, len(labels)), replace=False)
        variables, state, loss = train_step(model, optimizer, variables, state, images[batch], labels[batch])
        if step % max(1, args.steps // 5) == 0:
            print(f"step {step:5d}  loss {float(loss):.3f}")

    print(f"test accuracy, running statistics     {float(accuracy(model, variables, test_images, test_labels)):.3f}")
    if "batch_stats" in variables:
        probe = Classifier(make_cell(args.cell, args.hidden, rows, momentum=0.0))
        batches = (jnp.asarray(images[k : k + args.batch]) for k in range(0, min(len(images), 1024), args.batch))
        better = population_variables(probe, variables, batches)
        print(f"test accuracy, population statistics  {float(accuracy(model, better, test_images, test_labels)):.3f}")

    with tempfile.TemporaryDirectory() as scratch, ocp.StandardCheckpointer() as checkpointer:
        path = (args.out or Path(scratch)).resolve() / "variables"
        checkpointer.save(path, variables, force=True)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(path, jax.tree.map(jnp.zeros_like, variables))
    pairs = zip(jax.tree.leaves(variables), jax.tree.leaves(restored), strict=True)
    equal = all(np.array_equal(a, b) for a, b in pairs)
    print(f"restored from {path if args.out else 'a checkpoint'}: {'equal' if equal else 'NOT EQUAL'}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
