"""A text as numbers: characters or words, and what they are."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from char_lm_support import text

END = "<eos>"
"""The word that ends a line."""


class Corpus(NamedTuple):
    """A text in numbers. ``symbols[k]`` is what number k stands for; the last one stands for all that are unknown."""

    symbols: list[str]
    train: np.ndarray
    valid: np.ndarray
    unit: str
    about: str
    sha256: str

    def decode(self, ids: np.ndarray) -> str:
        drawn = [self.symbols[k] for k in ids]
        return "".join(drawn) if self.unit == "character" else " ".join(drawn).replace(END, "\n")

    @property
    def first(self) -> int:
        """The symbol that a sample begins after: the end of a line, if there are lines."""
        end = "\n" if self.unit == "character" else END
        return self.symbols.index(end) if end in self.symbols else int(self.train[0])


def load(path: str | None, unit: str, held_out: float, limit: int | None, vocabulary: int | None) -> Corpus:
    """Reads a text; ``vocabulary`` keeps that many of the most frequent symbols of the training part."""
    source = text.load(path, held_out, limit, words=unit == "word")
    train, valid = (split(part, unit) for part in (source.train, source.valid))
    counts = Counter(train)
    counts.pop(text.UNKNOWN, None)
    kept = sorted(sorted(counts), key=counts.__getitem__, reverse=True)[:vocabulary]
    symbols = [*sorted(kept), text.UNKNOWN]
    numbers = {symbol: k for k, symbol in enumerate(symbols)}

    def encode(part: list[str]) -> np.ndarray:
        return np.fromiter((numbers.get(symbol, len(kept)) for symbol in part), np.int32, len(part))

    about = f"{source.source}: {len(train):,} {unit}s to train on, {len(valid):,} held out, {len(symbols):,} symbols"
    return Corpus(symbols, encode(train), encode(valid), unit, about, source.sha256)


def split(part: str, unit: str) -> list[str]:
    """The symbols of a text in their order."""
    if unit == "character":
        return list(part)
    return [word for line in part.splitlines() for word in (*line.split(), END)]
