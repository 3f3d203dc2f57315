"""Readers of sentences, stories and captions, on small files of the same form and on what is installed."""

import io
import lzma
import tarfile

import numpy as np
import pytest

from experiments.data import babi, captions, novels, sentences
from experiments.harness.errors import BadInput

STORY = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Mary went to the office.
5 Where is Mary? \toffice\t4
1 The office is north of the kitchen.
2 What is north of the kitchen?\toffice\t1
"""


def written(padded, symbols, index):
    ids, length = padded.ids[index], padded.lengths[index]
    assert not ids[length:].any()
    return " ".join(symbols[k] for k in ids[:length])


def test_words_beyond_the_vocabulary_are_unknown_and_long_sentences_cut():
    symbols = sentences.vocabulary([["b", "a", "a"], ["a", "b", "c"]], 3)
    assert symbols == ("<unk>", "a", "b")
    padded = sentences.pad([["c", "b"], ["a", "b", "a", "b"]], symbols, 3)
    assert padded.ids.tolist() == [[0, 2, 0], [1, 2, 1]]
    assert padded.lengths.tolist() == [2, 3]


def test_babi_gives_a_question_all_of_its_story_and_no_other(tmp_path):
    (tmp_path / "babi").mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for task in babi.TASKS:
            for part in ("train", "test"):
                content = (STORY * (10 if part == "train" else 1)).encode()
                entry = tarfile.TarInfo(f"./{task}_{part}.txt")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    (tmp_path / babi.ARCHIVE).write_bytes(lzma.compress(packed.getvalue()))
    read = babi.babi(tmp_path)
    assert [len(part.answer) for part in (read.train, read.valid, read.test)] == [54, 6, 6]
    assert written(read.test.story, read.symbols, 0) == "mary moved to the bathroom . john went to the hallway ."
    assert written(read.test.story, read.symbols, 1).endswith("john went to the hallway . mary went to the office .")
    assert written(read.test.story, read.symbols, 2) == "the office is north of the kitchen ."
    assert written(read.test.question, read.symbols, 2) == "what is north of the kitchen ?"
    assert [read.answers[k] for k in read.test.answer] == ["bathroom", "office", "office"] * 2


def test_without_a_folder_the_story_holds_the_word_that_is_asked_for():
    read = babi.babi(None)
    for part in (read.train, read.valid, read.test):
        for k, answer in enumerate(part.answer):
            question = written(part.question, read.symbols, k).split()
            assert "?" in question
            assert read.answers[answer] not in question
            assert read.answers[answer] in written(part.story, read.symbols, k).split()


def test_captions_keep_to_their_image_and_part(tmp_path):
    folder = tmp_path / "flickr8k_captions"
    folder.mkdir()
    names = {"train": ["b.jpg", "a.jpg"], "dev": ["c.jpg"], "test": ["d.jpg"]}
    lines = [f"{name}#{k}\t{name[0]} says {k} ." for k in range(5) for images in names.values() for name in images]
    lines[3] = lines[3].replace("\t", "   ")
    (folder / "Flickr8k.token.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode()))
    for part, images in names.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("\n".join(images) + "\n")
    read = captions.captions(tmp_path, 20)
    assert read.train.ids.shape == (2, 5, captions.STEPS)
    assert [written(read.train, read.symbols, (0, k)) for k in (0, 4)] == ["b says 0 .", "b says 4 ."]
    assert written(read.valid, read.symbols, (0, 2)) == "<unk> says 2 ."


def test_captions_of_the_reference_lack_different_words_of_one_sentence():
    read = captions.captions(None, 400)
    assert np.all(read.train.lengths.max(1) - read.train.lengths.min(1) <= 1)
    assert len(np.unique(read.train.ids[0], axis=0)) == 5


def test_passages_are_cut_into_sentences_with_their_quotation_marks():
    passage = "`` what ? '' he said . nobody spoke , ' not one ! ' she did"
    assert [" ".join(found) for found in novels.sentences_of(passage)] == [
        "`` what ? ''", "he said .", "nobody spoke , ' not one ! '", "she did",
    ]  # fmt: skip


def test_triples_follow_each_other():
    read = novels.novels(None, 300)
    assert read.train.ids.shape[1:] == (3, novels.STEPS)
    assert np.array_equal(read.train.ids[0, 1:], read.train.ids[1, :2])
    probe, labels = read.labeled["halves"]
    assert len(probe.ids) == len(labels)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match="lambada_development"):
        novels.novels(tmp_path, 100)
