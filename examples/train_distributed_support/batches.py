"""Batches for one process out of several: its rows of every global batch, whoever reads the others.

The order of the text is a function of the seed alone. A process names its rows by their numbers in the global batch, so
that the text of a row does not depend on how many processes there are, and the position is one number: the steps read.
"""

import sys
from collections.abc import Sequence

import grain
import jax
import numpy as np


class Passages:
    """A text cut into passages, for random access: each has one symbol more than it has steps."""

    def __init__(self, ids: np.ndarray, length: int) -> None:
        self._ids, self._length = ids, length

    def __len__(self) -> int:
        return (len(self._ids) - 1) // self._length

    def __getitem__(self, number: int) -> np.ndarray:
        return self._ids[number * self._length : (number + 1) * self._length + 1]


class Windows(grain.MapDataset):
    """The windows of some rows, step after step. A row reads a passage window by window, then takes another one."""

    def __init__(self, passages: grain.MapDataset, rows: Sequence[int], batch: int, window: int, passage: int) -> None:
        super().__init__(passages)
        self._rows, self._batch, self._window, self._passage = rows, batch, window, passage

    def __len__(self) -> int:
        return min(sys.maxsize, len(self.parents[0]) // self._batch * self._passage * len(self._rows))

    def __getitem__(self, index: int) -> np.ndarray:
        step, place = divmod(index, len(self._rows))
        group, number = divmod(step, self._passage)
        passage = self.parents[0][group * self._batch + self._rows[place]]
        return passage[number * self._window : (number + 1) * self._window + 1]


def training_batches(
    ids: np.ndarray, rows: Sequence[int], *, batch: int, window: int, passage: int, seed: int
) -> grain.DatasetIterator:
    """Windows (rows, T + 1), one for each step, without an end; its state says how many were read."""
    passages = grain.MapDataset.source(Passages(ids, passage * window)).shuffle(seed=seed).repeat()
    mine = Windows(passages, rows, batch, window, passage).batch(len(rows))
    return iter(mine.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)))


def own_rows(sharding: jax.sharding.Sharding, batch: int) -> list[int]:
    """The rows of a global batch that lie on the devices of this process."""
    slices = sharding.addressable_devices_indices_map((batch,)).values()
    return sorted({row for (part,) in slices for row in range(*part.indices(batch))})


def streams(ids: np.ndarray, window: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Lays a text side by side in streams, cut into windows (N, B, T): inputs, and targets (-1 where there is none)."""
    length = max(1, -(-(len(ids) - 1) // batch))
    padded = -(-length // window) * window

    def lay(shifted: np.ndarray, fill: int) -> np.ndarray:
        rows = np.full((batch, padded), fill, np.int32)
        flat = np.full(batch * length, fill, np.int32)
        flat[: len(shifted)] = shifted
        rows[:, :length] = flat.reshape(batch, length)
        return rows.reshape(batch, -1, window).swapaxes(0, 1)

    return lay(ids[:-1], 0), lay(ids[1:], -1)
