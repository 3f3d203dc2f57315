"""Stories with questions: bAbI, or questions made of the language reference."""

import io
import itertools
import re
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.files import read
from experiments.data.sentences import Padded, Words, pad, reference_sentences, vocabulary

TASKS = ("qa1_single-supporting-fact", "qa4_two-arg-relations")
ARCHIVE = "babi/babi_v1-2_en-10k_minus_qa3train.tar.xz"
Asked = tuple[Words, Words, str]
"""A story, a question, its answer."""


class Questions(NamedTuple):
    """Questions, the stories before them, and answers as indices into the symbols that answer."""

    story: Padded
    question: Padded
    answer: Any

    def take(self, chosen: np.ndarray | slice) -> "Questions":
        """Some of the questions."""
        return Questions(self.story.take(chosen), self.question.take(chosen), self.answer[chosen])


class Stories(NamedTuple):
    """Questions on stories."""

    source: str
    symbols: tuple[str, ...]
    answers: tuple[str, ...]
    train: Questions
    valid: Questions
    test: Questions


def babi(folder: Path | None) -> Stories:
    """Tasks 1 and 4 of bAbI (English, 10,000 questions each), the last tenth of training held out.

    Without a folder: of two sentences of the language reference that follow each other and share one of its six most
    common long words the first is the story, and the second asks for that word.
    """
    if folder is None:
        asked = _cloze(reference_sentences())
        return _stories("Python language reference, a word asked for", *_split(asked, 0.8, 0.1))
    train, valid, test = [], [], []
    with tarfile.open(fileobj=io.BytesIO(read(folder, ARCHIVE))) as archive:
        for task in TASKS:
            one, other, _ = _split(_questions(_member(archive, f"./{task}_train.txt")), 0.9, 0.1)
            train += one
            valid += other
            test += _questions(_member(archive, f"./{task}_test.txt"))
    return _stories("bAbI, tasks 1 and 4, 10,000 questions each", train, valid, test)


def _member(archive: tarfile.TarFile, name: str) -> str:
    found = archive.extractfile(name)
    assert found is not None  # a file, not a folder
    return found.read().decode()


def _words(text: str) -> Words:
    return re.findall(r"\w+|[.?]", text.lower())


def _questions(text: str) -> list[Asked]:
    asked: list[Asked] = []
    story: Words = []
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        story = [] if number == "1" else story
        if "\t" in rest:
            question, answer, _ = rest.split("\t")
            asked.append((story, _words(question), answer))
        else:
            story = story + _words(rest)
    return asked


def _cloze(sentences: list[Words]) -> list[Asked]:
    words = [word for word in vocabulary(sentences, 1000)[1:] if len(word) > 6][:6]
    asked = []
    for story, question in itertools.pairwise(sentences):
        shared = [word for word in words if word in story and word in question]
        if len(shared) == 1 and max(len(story), len(question)) <= 20:
            asked.append((story, ["?" if word == shared[0] else word for word in question], shared[0]))
    return asked


def _split(asked: list[Asked], train: float, valid: float) -> tuple[list[Asked], list[Asked], list[Asked]]:
    first, second = round(train * len(asked)), round((train + valid) * len(asked))
    return asked[:first], asked[first:second], asked[second:]


def _stories(source: str, *parts: list[Asked]) -> Stories:
    symbols = vocabulary((words for story, question, _ in parts[0] for words in (story, question)), 500)
    answers = tuple(sorted({answer for _, _, answer in parts[0]}))
    everything = [one for part in parts for one in part]
    steps = [max(len(one[k]) for one in everything) for k in (0, 1)]

    def lay(part: list[Asked]) -> Questions:
        story, question, answer = zip(*part, strict=True)
        numbers = np.array([answers.index(one) for one in answer], np.int32)
        return Questions(pad(story, symbols, steps[0]), pad(question, symbols, steps[1]), numbers)

    train, valid, test = map(lay, parts)
    return Stories(source, symbols, answers, train, valid, test)
