"""Texts: the Penn Treebank as characters or words, or the language reference that CPython carries."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import read


class Text(NamedTuple):
    """A text as indices into its symbols."""

    source: str
    symbols: tuple[str, ...]
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def characters(folder: Path | None) -> Text:
    """Penn Treebank, character by character as in Mikolov's form; without a folder the language reference."""
    parts = reference() if folder is None else {
        part: "".join(f"{line.strip(' ').replace(' ', '_')}\n" for line in _lines(folder, part))
        for part in ("train", "valid", "test")
    }  # fmt: skip
    symbols = tuple(sorted(set(parts["train"])))
    index = {symbol: k for k, symbol in enumerate(symbols)}
    encoded = (np.array([index.get(c, 0) for c in parts[part]], np.int32) for part in ("train", "valid", "test"))
    return Text("Python language reference" if folder is None else "Penn Treebank, characters", symbols, *encoded)


def words(folder: Path | None, vocabulary: int) -> Text:
    """Penn Treebank, word by word, ``<eos>`` after each line; words beyond the most common are ``<unk>``."""
    if folder is None:
        tokens = {part: text.replace("\n", " <eos> ").split() for part, text in reference().items()}
    else:
        tokens = {part: [word for line in _lines(folder, part) for word in [*line.split(), "<eos>"]]
                  for part in ("train", "valid", "test")}  # fmt: skip
    common = [word for word, _ in Counter(tokens["train"]).most_common() if word != "<unk>"][: vocabulary - 1]
    symbols = ("<unk>", *common)
    index = {word: k for k, word in enumerate(symbols)}
    encoded = (np.array([index.get(w, 0) for w in tokens[part]], np.int32) for part in ("train", "valid", "test"))
    return Text("Python language reference, words" if folder is None else "Penn Treebank, words", symbols, *encoded)


def _lines(folder: Path, part: str) -> list[str]:
    return read(folder, f"ptb/ptb.{part}.txt.xz").decode().removesuffix("\n").split("\n")


def reference() -> dict[str, str]:
    """The language reference that CPython carries, as train, valid and test."""
    from pydoc_data.topics import topics

    text = "".join(topics[name] for name in sorted(topics))
    train, valid = round(0.9 * len(text)), round(0.95 * len(text))
    return {"train": text[:train], "valid": text[train:valid], "test": text[valid:]}


def streams(ids: np.ndarray, batch: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """A text laid side by side in streams and cut into windows (N, T, B): inputs and targets."""
    windows = (len(ids) - 1) // (batch * window)
    if windows < 1:
        batch, windows = 1, max(1, (len(ids) - 1) // window)
        window = min(window, len(ids) - 1)

    def lay(shifted: np.ndarray) -> np.ndarray:
        rows = shifted[: batch * windows * window].reshape(batch, windows, window)
        return np.ascontiguousarray(rows.transpose(1, 2, 0))

    return lay(ids[:-1]), lay(ids[1:])
