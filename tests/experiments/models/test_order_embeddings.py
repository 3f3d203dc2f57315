"""Order-embeddings against loops in float64."""

import jax
import numpy as np
import pytest

from experiments.models.order_embeddings import MARGIN, margin_loss, place, ranks, score


@pytest.fixture(autouse=True)
def _as_users_run():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def likeness_of(c, i, likeness):
    return c @ i if likeness == "symmetric" else -sum(max(0.0, a - b) ** 2 for a, b in zip(c, i, strict=True))


@pytest.mark.parametrize("likeness", ["symmetric", "order"])
def test_scores_and_loss_are_those_of_the_paper(likeness):
    rng = np.random.default_rng(0)
    captions, images = rng.normal(size=(2, 5, 4)).astype(np.float32)
    c, i = (np.asarray(place(states, likeness), np.float64) for states in (captions, images))
    for found, states in ((c, captions), (i, images)):
        expected = np.abs(states) if likeness == "order" else states
        np.testing.assert_allclose(found, expected / np.linalg.norm(states, axis=1, keepdims=True), rtol=1e-5)
    expected = np.array([[likeness_of(a, b, likeness) for b in i] for a in c])
    np.testing.assert_allclose(score(c.astype(np.float32), i.astype(np.float32), likeness), expected, atol=1e-5)
    loss = 0.0
    for k in range(5):
        for false in set(range(5)) - {k}:
            loss += max(0.0, MARGIN - expected[k, k] + expected[false, k])  # another caption
            loss += max(0.0, MARGIN - expected[k, k] + expected[k, false])  # another image
    np.testing.assert_allclose(margin_loss(expected.astype(np.float32)), loss, rtol=1e-5)


def test_the_order_is_not_symmetric():
    general, special = np.array([[0.1, 0.2]], np.float32), np.array([[0.3, 0.4]], np.float32)
    assert score(general, special, "order")[0, 0] == 0
    assert score(special, general, "order")[0, 0] < 0


def test_ranks_count_what_scores_higher_and_half_of_equals():
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 4.0], [1.0, 1.0, 1.0]], np.float32)
    assert ranks(scores).tolist() == [1.0, 2.5, 2.0]
