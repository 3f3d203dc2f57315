"""Images: MNIST, binarized MNIST and CIFAR-10, or the digits that scikit-learn carries."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import find, read


class Images(NamedTuple):
    """Images and labels; float32."""

    source: str
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def mnist(folder: Path | None) -> Images:
    """MNIST as (N, 28, 28) in [0, 1], the last 10,000 of training held out; without a folder 1,797 digits (N, 8, 8)."""
    if folder is None:
        return _digits()
    images, labels = _idx(folder, "train")
    border = len(images) - 10_000
    return Images("MNIST", (images[:border], labels[:border]), (images[border:], labels[border:]), _idx(folder, "t10k"))


def _idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.frombuffer(read(folder, f"mnist/{part}-images-idx3-ubyte.gz")[16:], np.uint8)
    labels = np.frombuffer(read(folder, f"mnist/{part}-labels-idx1-ubyte.gz")[8:], np.uint8)
    return pixels.reshape(-1, 28, 28).astype(np.float32) / 255, labels.astype(np.int32)


def _digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images, labels = found.images[order].astype(np.float32) / 16, found.target[order].astype(np.int32)
    parts = (slice(0, 1297), slice(1297, 1547), slice(1547, None))
    return Images("scikit-learn's digits", *((images[part], labels[part]) for part in parts))


class Binary(NamedTuple):
    """Images of zeros and ones (N, A, A); float32."""

    source: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def binarized_mnist(folder: Path | None) -> Binary:
    """The fixed binarization of MNIST (N, 28, 28); without a folder digits (N, 8, 8)."""
    if folder is None:
        digits = _digits()
        return Binary(digits.source, *((part[0] > 0.5).astype(np.float32) for part in digits[1:]))
    stored = np.load(find(folder, "binarized_mnist/binarized_mnist_larochelle.npz"))
    parts = (np.unpackbits(stored[name], axis=1)[:, :784] for name in ("train", "valid", "test"))
    return Binary("binarized MNIST", *(part.reshape(-1, 28, 28).astype(np.float32) for part in parts))


def cifar10(folder: Path | None, train: int = 7_000, valid: int = 1_000) -> Images:
    """CIFAR-10 as (N, 32, 32, 3), each channel of training at mean 0 and deviation 1; without a folder digits (N, 8, 8, 1).

    Of the 11,000 images at hand the first ``train`` train, the next ``valid`` validate, all others test.
    """
    if folder is None:
        digits = _digits()
        return Images(digits.source, *((images[..., None] - 0.3, labels) for images, labels in digits[1:]))
    from PIL import Image

    numbers = [*range(10), 50]
    images = np.concatenate([
        np.asarray(Image.open(find(folder, f"cifar10/cifar10_batch_{k:02d}.webp")).convert("RGB"))
        .reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1000, 32, 32, 3)
        for k in numbers
    ])  # fmt: skip
    labels = np.frombuffer(read(folder, "cifar10/labels_51000_uint8.bin"), np.uint8).reshape(51, 1000)[numbers].reshape(-1)
    pixels = images.astype(np.float32) / 255
    pixels = (pixels - pixels[:train].mean((0, 1, 2))) / pixels[:train].std((0, 1, 2))
    borders = (slice(0, train), slice(train, train + valid), slice(train + valid, None))
    return Images("CIFAR-10, 11,000 images of it", *((pixels[b], labels[b].astype(np.int32)) for b in borders))
