"""Captions: Flickr8k's, five an image and no image, or sentences of the language reference with words left out."""

from pathlib import Path
from typing import NamedTuple

from experiments.data.files import find, lines
from experiments.data.sentences import Padded, Words, pad, reference_sentences, vocabulary

EACH = 5
STEPS = 20
"""Words of a caption; what is longer (two in a hundred) is cut."""


class Captions(NamedTuple):
    """Captions with ids (N, 5, T) and lengths (N, 5): five for each of N images."""

    source: str
    symbols: tuple[str, ...]
    train: Padded
    valid: Padded
    test: Padded


def captions(folder: Path | None, most: int) -> Captions:
    """Flickr8k in its usual parts of 6,000, 1,000 and 1,000 images.

    Without a folder: for an image a sentence of the language reference, and for a caption this sentence without every
    fifth word.
    """
    if folder is None:
        sentences = [words for words in reference_sentences() if 10 <= len(words) <= STEPS]
        found = [[[w for n, w in enumerate(s) if n % EACH != k] for k in range(EACH)] for s in sentences]
        return _captions("Python language reference, words left out", most, found[:500], found[500:560], found[560:620])
    by_image: dict[str, list[Words]] = {}
    for line in lines(folder, "flickr8k_captions/Flickr8k.token.txt.xz"):
        name, caption = line.split(None, 1)  # a tab, but in one line spaces
        by_image.setdefault(name.partition("#")[0], []).append(caption.lower().split())
    parts = []
    for part in ("train", "dev", "test"):
        names = find(folder, f"flickr8k_captions/Flickr_8k.{part}Images.txt").read_text(encoding="utf-8").split()
        parts.append([by_image[name] for name in names])
    return _captions("Flickr8k, captions", most, *parts)


def _captions(source: str, most: int, *parts: list[list[Words]]) -> Captions:
    symbols = vocabulary((words for image in parts[0] for words in image), most)

    def lay(part: list[list[Words]]) -> Padded:
        ids, lengths = pad([words for image in part for words in image], symbols, STEPS)
        return Padded(ids.reshape(-1, EACH, STEPS), lengths.reshape(-1, EACH))

    train, valid, test = map(lay, parts)
    return Captions(source, symbols, train, valid, test)
