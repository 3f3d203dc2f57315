"""The picture of the reader's attention."""

import numpy as np

from experiments.claims.reader import pictures


def test_each_question_gets_a_panel_with_a_row_an_arm_and_the_words_of_its_story():
    rng = np.random.default_rng(0)
    seen = {
        "story": np.array([["a", "b", "c"], ["d", "e", "<unk>"]]),
        "lengths": np.array([3, 2]),
        "question": np.array(["who ?", "where ?"]),
        "answer": np.array(["x", "y"]),
    }
    artifacts = {
        arm: {**seen, "alignment": rng.random((2, 3)), "said": np.array(["x", "z"])} for arm in ("LSTM", "LN-LSTM")
    }
    figure = pictures([], artifacts)["alignments.png"]
    first, second = figure.axes
    assert [label.get_text() for label in second.get_xticklabels()] == ["d", "e"]
    assert [label.get_text() for label in second.get_yticklabels()] == ["LSTM: z", "LN-LSTM: z"]
    assert "where ?" in second.get_title(loc="left")
    np.testing.assert_array_equal(first.get_images()[0].get_array(), [a["alignment"][0] for a in artifacts.values()])
    assert pictures([], {}) == {}
