"""Sentences in order: LAMBADA's passages of novels, or the language reference; and data sets to probe vectors with."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.files import lines
from experiments.data.sentences import Padded, Words, pad, reference_sentences, vocabulary

STEPS = 20
"""Words of a sentence in training; what is longer is cut (one in six)."""
PROBE_STEPS = 40
HELD_OUT = 500
"""Passages for validation, and as many for the test."""
LABELED = ("MR", "CR", "SUBJ", "MPQA")


class Pairs(NamedTuple):
    """Pairs of sentences with a figure for how related they are; the first ``train`` of them are for training."""

    one: Padded
    other: Padded
    related: np.ndarray
    train: int


class Novels(NamedTuple):
    """Triples of sentences, ids (N, 3, T) and lengths (N, 3): the one before, the one in the middle, the one after."""

    source: str
    symbols: tuple[str, ...]
    train: Padded
    valid: Padded
    test: Padded
    labeled: Mapping[str, tuple[Padded, np.ndarray]]
    """By name: sentences, and 0 or 1 for each."""
    pairs: Pairs | None


def novels(folder: Path | None, most: int) -> Novels:
    """LAMBADA's passages cut into sentences, with the reviews and phrases of MR, CR, SUBJ and MPQA and SICK's pairs.

    Without a folder: the language reference, and its first half against its second.
    """
    if folder is None:
        sentences = reference_sentences()
        half = len(sentences) // 2
        labeled = {"halves": (sentences[:100] + sentences[half : half + 100], [0] * 100 + [1] * 100)}
        parts = [[sentences[a:b]] for a, b in ((0, 2000), (2000, 2100), (2100, 2200))]
        return _novels("Python language reference, sentences", most, parts, labeled, None)
    first, second = (
        [sentences_of(passage) for passage in lines(folder, f"lambada/lambada_{part}_plain_text.txt.xz")]
        for part in ("development", "test")
    )
    parts = [first[:-HELD_OUT] + second[:-HELD_OUT], first[-HELD_OUT:], second[-HELD_OUT:]]
    labeled = {name: _labeled(lines(folder, f"sentences/{name}.txt.xz", "latin-1")) for name in LABELED}
    return _novels("LAMBADA, sentences", most, parts, labeled, _sick(folder))


def sentences_of(passage: str) -> list[Words]:
    """Cuts a passage after full stops, question and exclamation marks, and the quotation marks that follow them."""
    found: list[Words] = [[]]
    for word in passage.split():
        ended = bool(found[-1]) and found[-1][-1] in (".", "?", "!")
        if ended and word not in ("''", "'"):
            found.append([])
        found[-1].append(word)
        if ended and word in ("''", "'"):
            found.append([])
    return [sentence for sentence in found if sentence]


def _triples(passages: list[list[Words]]) -> list[Words]:
    """Three sentences each, one after the other in one list."""
    return [
        sentence
        for passage in passages
        for triple in zip(passage, passage[1:], passage[2:], strict=False)
        for sentence in triple
    ]


def _labeled(rows: list[str]) -> tuple[list[Words], list[int]]:
    words = [row.split() for row in rows if len(row.split()) > 1]
    return [row[1:] for row in words], [int(row[0]) for row in words]


def _sick(folder: Path) -> tuple[list[Words], list[Words], list[float], int]:
    parts = []
    for part in ("train", "trial", "test_annotated"):
        parts.append([line.split("\t") for line in lines(folder, f"sick/SICK_{part}.txt.xz")[1:] if line])
    rows = [row for part in parts for row in part]
    one, other = ([row[k].lower().split() for row in rows] for k in (1, 2))
    return one, other, [float(row[3]) for row in rows], len(parts[0]) + len(parts[1])


def _novels(
    source: str,
    most: int,
    passages: list[list[list[Words]]],
    labeled: Mapping[str, tuple[list[Words], list[int]]],
    sick: tuple[list[Words], list[Words], list[float], int] | None,
) -> Novels:
    parts = [_triples(part) for part in passages]
    symbols = vocabulary(parts[0], most)

    def lay(sentences: list[Words]) -> Padded:
        ids, lengths = pad(sentences, symbols, STEPS)
        return Padded(ids.reshape(-1, 3, STEPS), lengths.reshape(-1, 3))

    def probe(sentences: list[Words]) -> Padded:
        return pad(sentences, symbols, PROBE_STEPS)

    probes = {name: (probe(sentences), np.array(labels)) for name, (sentences, labels) in labeled.items()}
    pairs = None if sick is None else Pairs(probe(sick[0]), probe(sick[1]), np.array(sick[2]), sick[3])
    train, valid, test = map(lay, parts)
    return Novels(source, symbols, train, valid, test, probes, pairs)
