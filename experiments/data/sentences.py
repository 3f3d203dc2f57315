"""Sentences as padded indices into a vocabulary, and those of the language reference that CPython carries."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.text import reference

Words = list[str]


class Padded(NamedTuple):
    """Sentences of one length, cut or padded with zeros."""

    ids: Any  # arrays of NumPy outside of a program, of JAX inside
    """(N, T)"""
    lengths: Any
    """(N,): how many words are real."""

    def take(self, chosen: Any) -> "Padded":
        """Some of the sentences."""
        return Padded(self.ids[chosen], self.lengths[chosen])


def vocabulary(sentences: Iterable[Words], most: int) -> tuple[str, ...]:
    """The most common words; number 0 stands for all others."""
    counts = Counter(word for sentence in sentences for word in sentence)
    return ("<unk>", *(word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: most - 1]))


def pad(sentences: Sequence[Words], symbols: Sequence[str], steps: int) -> Padded:
    """Looks words up and brings all sentences to ``steps`` words."""
    index = {word: k for k, word in enumerate(symbols)}
    ids = np.zeros((len(sentences), steps), np.int32)
    lengths = np.array([min(len(sentence), steps) for sentence in sentences], np.int32)
    for row, sentence, length in zip(ids, sentences, lengths, strict=True):
        row[:length] = [index.get(word, 0) for word in sentence[:length]]
    return Padded(ids, lengths)


def reference_sentences() -> list[Words]:
    """The sentences of CPython's language reference in order, in small letters, of at least three words."""
    text = " ".join(reference().values()).lower()
    found = (re.findall(r"[a-z_]+", sentence) for sentence in re.split(r"[.:;!?]\s", text))
    return [words for words in found if len(words) > 2]
