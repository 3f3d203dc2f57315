"""Random crops and mirror images, as ResNets have them on CIFAR-10."""

import numpy as np


def crop_and_flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves images (N, H, W, C) by up to an eighth of height and width, over zeros, and mirrors half of them."""
    count, height, width, _ = images.shape
    most = (height // 8, width // 8)  # four pixels of 32
    padded = np.pad(images, ((0, 0), (most[0],) * 2, (most[1],) * 2, (0, 0)))
    tops, lefts = (np.asarray(rng.integers(0, 2 * m + 1, (count,))) for m in most)
    rows, columns = tops[:, None] + np.arange(height), lefts[:, None] + np.arange(width)
    columns = np.where(rng.random((count, 1)) < 0.5, columns[:, ::-1], columns)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
