"""Lines of handwriting: the outlines that are installed, their scaling, and how they are cut."""

import numpy as np
import pytest

from experiments.data.strokes import lines, pieces, standardized


@pytest.fixture(scope="module")
def installed():
    return lines(None)


def test_installed_lines_are_scaled_by_the_points_of_training(installed):
    points = np.concatenate(installed.train)
    np.testing.assert_allclose(points[:, :2].mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(points[:, :2].std(0), 1.0, atol=1e-4)
    assert points.dtype == np.float32
    assert [len(part) for part in installed[1:4]] == [200, 25, 25]


def test_scaling_loses_nothing_in_millions_of_points():
    line = np.random.default_rng(0).normal(8, 40, (3_000_000, 3)).astype(np.float32)
    scaled = standardized("", [line], [line[:9]], [line[:9]])
    expected = line[:, :2].astype(np.float64).std(0)
    np.testing.assert_allclose(scaled.deviation, expected, rtol=1e-5)
    np.testing.assert_allclose(scaled.valid[0][:, :2] * scaled.deviation + scaled.mean, line[:9, :2], rtol=1e-4)


def test_every_line_is_made_of_whole_strokes(installed):
    for line in installed.valid:
        assert set(np.unique(line[:, 2])) == {0.0, 1.0}
        assert line[-1, 2] == 1.0


def test_the_lines_are_the_same_each_time(installed):
    np.testing.assert_array_equal(installed.test[3], lines(None).test[3])


def test_pieces_cover_a_line_and_the_last_ends_with_it():
    line = np.arange(33.0).reshape(11, 3)
    cut = pieces([line, line[:3]], 4)
    np.testing.assert_array_equal(cut[:, 0, 0] / 3, [0, 4, 7])
    np.testing.assert_array_equal(cut[-1], line[-4:])
