import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))  # experiments is no part of the package

from experiments.data import lines
from experiments.data.text import characters


def test_a_text_of_five_lines():
    text = "four\nab\nmuch too long\nthree\n\nfive\nno end"
    ids = np.array([ord(c) for c in text])
    found = lines.split(ids, ord("\n"), 6)
    assert ["".join(map(chr, line)) for line in found] == ["ab\n", "four\n", "five\n", "three\n"]
    folded = lines.fold(found)
    assert ["".join(map(chr, line)) for line in folded] == ["ab\nthree\n", "four\nfive\n"]
    rows = lines.pad(found, ord("\n"), 7)
    assert "".join(map(chr, rows.ids[0])) == "\nab\n\n\n\n\n"
    assert rows.lengths.tolist() == [3, 5, 5, 6]
    assert rows.ids.shape == (4, 8)


def test_an_odd_number_of_lines_leaves_the_middle_out():
    folded = lines.fold([np.array([k]) for k in range(5)])
    assert [pair.tolist() for pair in folded] == [[0, 4], [1, 3]]


def test_lines_of_the_language_reference():
    text = characters(None)
    found = lines.split(text.train, text.symbols.index("\n"), 80)
    assert len(found) > 1000
    assert all(len(a) <= len(b) for a, b in itertools.pairwise(found))
    assert {line[-1] for line in found} == {text.symbols.index("\n")}
    folded = [len(pair) for pair in lines.fold(found)]
    assert np.std(folded) < np.std([len(line) for line in found])
