"""Lines of handwriting as strokes of a pen: IAM-OnDB, or the outlines of printed lines."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data.files import read

PARTS = {"train": ("trainset", "testset_f"), "valid": ("testset_v",), "test": ("testset_t",)}


class Lines(NamedTuple):
    """Lines as points (N, 3), float32: the way from the last point in x and y, and 1 where the pen is then lifted.

    The ways are in units of their deviation over the points of training, about their mean, as Graves has them.
    """

    source: str
    train: list[np.ndarray]
    valid: list[np.ndarray]
    test: list[np.ndarray]
    mean: np.ndarray
    """What to add to a way that is multiplied by ``deviation`` to draw it."""
    deviation: np.ndarray


def lines(folder: Path | None) -> Lines:
    """IAM-OnDB by Graves' lists of forms; without a folder 250 printed lines.

    Graves trains on three of his lists (5,364, 1,518 and 3,859 lines) and stops by the fourth (1,438). Here the second
    of them is kept for the test.
    """
    if folder is None:
        printed = [_printed(k) for k in range(250)]
        return standardized("outlines of printed lines", printed[:200], printed[200:225], printed[225:])
    stored = np.load(io.BytesIO(read(folder, "iam_ondb/iam_ondb_lines.npz.xz")))
    points = np.stack([stored["dx"], stored["dy"], stored["pen_up"]], axis=1).astype(np.float32)
    found = np.split(points, stored["offsets"][1:-1])
    forms = np.array([name.decode().rpartition("-")[0] for name in stored["ids"]])
    parts = []
    for names in PARTS.values():
        wanted = [form for name in names for form in read(folder, f"iam_ondb/split_{name}.txt").decode().split()]
        parts.append([found[k] for k in np.flatnonzero(np.isin(forms, wanted))])
    return standardized("IAM-OnDB", *parts)


def pieces(found: list[np.ndarray], length: int) -> np.ndarray:
    """Lines cut into pieces (N, length, 3), one after another; the last one of a line begins earlier, to end with it.

    Lines that are shorter than a piece are left out.
    """
    cut = [
        line[min(start, len(line) - length) :][:length]
        for line in found
        if len(line) >= length
        for start in range(0, len(line), length)
    ]
    return np.stack(cut)


def standardized(source: str, *parts: list[np.ndarray]) -> Lines:
    """Lines of training, validation and test, their ways scaled by those of training."""
    ways = np.concatenate(parts[0])[:, :2].astype(np.float64)  # sums of millions of squares
    mean, deviation = (figure.astype(np.float32) for figure in (ways.mean(0), ways.std(0)))
    train, valid, test = (
        [np.column_stack([(line[:, :2] - mean) / deviation, line[:, 2]]) for line in part] for part in parts
    )
    return Lines(source, train, valid, test, mean, deviation)


def _printed(number: int) -> np.ndarray:
    """A line of the language reference in DejaVu Sans: its outlines, slanted, with a hand that trembles a little."""
    from pydoc_data.topics import topics

    from matplotlib.textpath import TextPath

    generator = np.random.default_rng(number)
    words = topics["assignment"].split()
    text = " ".join(words[4 * number % (len(words) - 4) :][:4]).replace("$", "")
    outlines: Any = TextPath((0, 0), text, size=20).to_polygons(closed_only=False)
    slant = np.array([[1.0, 0.0], [generator.uniform(0.0, 0.4), -1.0]])  # y grows downwards, as on a tablet
    strokes = [outline @ slant + generator.normal(0.0, 0.2, outline.shape) for outline in outlines]
    ways = np.diff(np.concatenate([np.zeros((1, 2)), *strokes]), axis=0)
    lifted = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in strokes])
    return np.column_stack([ways, lifted]).astype(np.float32)
