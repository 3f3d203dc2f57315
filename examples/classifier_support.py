"""What the classifiers in linen and in NNX share: digits as sequences, the cell, options, batches, checkpoints."""

import argparse
import gzip
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

import jaxnorm

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


def make_cell(name: str, hidden: int, rows: int) -> jaxnorm.Cell:
    """The cell; a BN-LSTM has one row of statistics for each row of the image."""
    if name == "bn_lstm":
        return jaxnorm.bn_lstm(hidden, max_steps=rows)
    return jaxnorm.ln_lstm(hidden)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def options(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
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


def random_batches(examples: int, args: argparse.Namespace) -> Iterator[np.ndarray]:
    """Indices of the images of each training step."""
    draw = np.random.default_rng(1)
    for _ in range(args.steps):
        yield draw.choice(examples, min(args.batch, examples), replace=False)


def probe_batches(images: np.ndarray, size: int) -> Iterator[jax.Array]:
    """A part of the training images in batches, for population statistics."""
    return (jnp.asarray(images[k : k + size]) for k in range(0, min(len(images), 1024), size))


def saved_and_restored(tree: Any, out: Path | None) -> Any:
    """Saves a tree in a checkpoint and restores it, in a temporary folder by default."""
    with tempfile.TemporaryDirectory() as scratch, ocp.StandardCheckpointer() as checkpointer:
        path = (out or Path(scratch)).resolve() / "checkpoint"
        checkpointer.save(path, tree, force=True)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, jax.tree.map(jnp.zeros_like, tree))


def report_equal(saved: Any, restored: Any) -> int:
    """Prints whether two trees are equal; returns the exit code."""
    pairs = zip(jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True)
    equal = all(np.array_equal(a, b) for a, b in pairs)
    print(f"restored from the checkpoint: {'equal' if equal else 'NOT EQUAL'}")
    return 0 if equal else 1
