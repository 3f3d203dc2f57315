"""Which examples a step sees: by seed and step alone, so that arms share them and a resumed run goes on with them."""

import functools

import numpy as np


class Shuffled:
    """Batches of whole epochs, each in an order of its own; what is left over at the end of an epoch is dropped."""

    def __init__(self, examples: int, batch: int) -> None:
        self.examples, self.batch = examples, min(batch, examples)
        self._order = functools.lru_cache(maxsize=4)(self._make_order)

    def __call__(self, seed: int, step: int) -> np.ndarray:
        """The indices of one batch."""
        epoch, place = divmod(step, self.examples // self.batch)
        return self._order(seed, epoch)[place * self.batch : (place + 1) * self.batch]

    def _make_order(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(self.examples)


class Windows:
    """Streams of a text: windows one after another, from places that are drawn anew each passage."""

    def __init__(self, length: int, batch: int, window: int, windows: int) -> None:
        self.length, self.batch, self.window, self.windows = length, batch, window, windows

    def __call__(self, seed: int, step: int) -> tuple[np.ndarray, bool]:
        """Where in the text each stream begins its window, and whether it begins anew."""
        passage, place = divmod(step, self.windows)
        starts = np.random.default_rng((seed, passage)).integers(
            0, self.length - self.windows * self.window, self.batch
        )
        return starts + place * self.window, place == 0
