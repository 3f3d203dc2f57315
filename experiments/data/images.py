"""Images: MNIST, binarized MNIST and CIFAR-10, or the digits that scikit-learn carries."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import find, read


class Images(NamedTuple):
    """Images, float32, and labels."""

    source: str
    train: tuple[np.ndarray, np.ndarray]
    valid: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    def with_images(self, change: Callable[[np.ndarray], np.ndarray]) -> "Images":
        """The same with all images changed."""
        return Images(
            self.source, *((change(images), labels) for images, labels in (self.train, self.valid, self.test))
        )


class Binary(NamedTuple):
    """Black and white images, float32."""

    source: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def mnist(folder: Path | None) -> Images:
    """MNIST as (N, 28, 28) in [0, 1], the last 10,000 of training held out; without a folder 1,797 digits (N, 8, 8)."""
    if folder is None:
        return _digits()
    images, labels = _idx(folder, "train")
    border = len(images) - 10_000
    return Images("MNIST", (images[:border], labels[:border]), (images[border:], labels[border:]), _idx(folder, "t10k"))


def binarized_mnist(folder: Path | None) -> Binary:
    """The fixed binarization of MNIST (N, 28, 28); without a folder digits (N, 8, 8)."""
    if folder is None:
        digits = _digits().with_images(lambda images: (images > 0.5).astype(np.float32))
        return Binary(digits.source, digits.train[0], digits.valid[0], digits.test[0])
    stored = np.load(find(folder, "binarized_mnist/binarized_mnist_larochelle.npz"))
    parts = (np.unpackbits(stored[name], axis=1)[:, :784] for name in ("train", "valid", "test"))
    return Binary("binarized MNIST", *(part.reshape(-1, 28, 28).astype(np.float32) for part in parts))


def cifar10(folder: Path | None, train: int = 7_000, valid: int = 1_000) -> Images:
    """CIFAR-10 as (N, 32, 32, 3), channels of mean 0 and deviation 1 in training; without a folder digits (N, 8, 8, 1).

    Of the 11,000 images at hand the first ``train`` train, the next ``valid`` validate, all others test.
    """
    if folder is None:
        return _digits().with_images(lambda images: images[..., None] - 0.3)
    numbers = [*range(10), 50]
    images = np.concatenate([_mosaic(find(folder, f"cifar10/cifar10_batch_{k:02d}.webp")) for k in numbers])
    labels = np.frombuffer(read(folder, "cifar10/labels_51000_uint8.bin"), np.uint8)
    labels = labels.reshape(51, 1000)[numbers].reshape(-1).astype(np.int32)
    pixels = images.astype(np.float32) / 255
    pixels = (pixels - pixels[:train].mean((0, 1, 2))) / pixels[:train].std((0, 1, 2))
    parts = (slice(0, train), slice(train, train + valid), slice(train + valid, None))
    return Images("CIFAR-10, 11,000 images of it", *((pixels[part], labels[part]) for part in parts))


def _idx(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.frombuffer(read(folder, f"mnist/{part}-images-idx3-ubyte.gz")[16:], np.uint8)
    labels = np.frombuffer(read(folder, f"mnist/{part}-labels-idx1-ubyte.gz")[8:], np.uint8)
    return pixels.reshape(-1, 28, 28).astype(np.float32) / 255, labels.astype(np.int32)


def _mosaic(file: Path) -> np.ndarray:
    """A thousand images out of one."""
    from PIL import Image

    pixels = np.asarray(Image.open(file).convert("RGB"))
    return pixels.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1000, 32, 32, 3)


def _digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images, labels = found.images[order].astype(np.float32) / 16, found.target[order].astype(np.int32)
    parts = (slice(0, 1297), slice(1297, 1547), slice(1547, None))
    return Images("scikit-learn's digits", *((images[part], labels[part]) for part in parts))
