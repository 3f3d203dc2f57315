"""The texts that the program char_lm.py reads, and how they are laid into windows."""

import gzip
import lzma

import numpy as np
import pytest

from tests.examples.char_lm_runs import EXAMPLES, TEXT

PTB = EXAMPLES.parents[1] / "shared" / "data" / "ptb"


@pytest.fixture
def text(char_lm):
    return char_lm.text


def test_the_same_text_in_every_form(text, tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "a.xz").write_bytes(lzma.compress(TEXT.encode()))
    texts = [text.load(str(tmp_path / name), 0.1) for name in ("a.txt", "a.gz", "a.xz")]
    assert {t.sha256 for t in texts} == {texts[0].sha256}
    assert texts[0].train + texts[0].valid == TEXT
    assert len(texts[0].valid) == round(0.1 * len(TEXT))


def test_a_folder_of_plain_text_stays_as_it_is(text, tmp_path):
    for part, content in (("training", "ab c\n"), ("validation", " x\n"), ("test", "b\n")):
        (tmp_path / f"my.{part}.txt").write_text(content)
    found = text.load(str(tmp_path), 0.5)
    assert found[1:] == ("ab c\n", " x\n", "b\n")
    ids = text.encode("axb", found.vocabulary)
    assert [found.vocabulary[k] for k in ids] == ["a", text.UNKNOWN, "b"]
    assert "1 held-out characters do not occur in training" in found.describe()


def test_lines_of_words_take_the_underscore_form(text, tmp_path):
    for part in ("train", "valid"):
        with lzma.open(tmp_path / f"w.{part}.txt.xz", "wt") as file:
            file.write(" no it was n't \n <unk> N \n")
    found = text.load(str(tmp_path), 0.1)
    assert found.train == found.valid == "no_it_was_n't\n<unk>_N\n"
    assert found.test == ""
    assert "became _" in found.source


@pytest.mark.skipif(
    not PTB.is_dir(), reason="the Penn Treebank files are not beside this checkout (../shared/data/ptb)"
)
def test_penn_treebank_has_its_known_sizes(text):
    found = text.load(str(PTB), 0.1)
    assert [len(part) for part in found[1:]] == [5_017_482, 393_042, 442_423]
    assert len(found.vocabulary) - 1 == 50


def test_windows_hold_every_character_once(text):
    inputs, targets = text.in_windows(np.arange(100, dtype=np.int32), window=8, batch=3)
    real = targets >= 0
    assert inputs.shape == targets.shape == (5, 8, 3)
    np.testing.assert_array_equal(np.asarray(targets)[real], np.asarray(inputs)[real] + 1)
    assert sorted(np.asarray(targets)[real]) == list(range(1, 100))


def test_a_wrong_text_raises_one_kind_of_error(text, tmp_path):
    from char_lm_support.errors import BadInput

    with pytest.raises(BadInput, match="there is no such file"):
        text.load(str(tmp_path / "nothing"), 0.1)
