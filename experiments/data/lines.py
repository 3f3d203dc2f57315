"""Lines of a text, one an example: sorted by length, padded, or folded so that all are of nearly equal length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Lines(NamedTuple):
    """Examples that begin and end with the end symbol, padded with it."""

    ids: np.ndarray
    """(N, T + 1); inputs are all but the last, targets all but the first."""
    lengths: np.ndarray
    """(N,): how many targets are real."""


def split(ids: np.ndarray, end: int, longest: int) -> list[np.ndarray]:
    """The lines of a text, each with its end, from the shortest to the longest; longer ones are left out."""
    lines = np.split(ids, np.flatnonzero(ids == end) + 1)
    return sorted((line for line in lines[:-1] if 1 < len(line) <= longest), key=len)


def fold(lines: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The shortest line joined to the longest, the next to the next: half as many examples, of nearly equal length."""
    half = len(lines) // 2
    pairs = zip(lines[:half], lines[: -half - 1 : -1], strict=True)
    return sorted(map(np.concatenate, pairs), key=len)


def pad(lines: Sequence[np.ndarray], end: int, steps: int) -> Lines:
    """Lays lines into rows."""
    rows = np.full((len(lines), steps + 1), end, np.int32)
    for row, line in zip(rows, lines, strict=True):
        row[1 : len(line) + 1] = line
    return Lines(rows, np.array([len(line) for line in lines], np.int32))
