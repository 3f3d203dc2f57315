"""What the picture of a claim shows of its curves."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.harness.plots import leave_out_the_start


@pytest.fixture
def panel():
    figure, panel = plt.subplots()
    yield panel
    plt.close(figure)


def test_a_start_that_would_take_half_the_height_is_left_out(panel):
    bands = [np.array([[590.0, 210.0, 110.0], [600.0, 220.0, 120.0]]), np.array([[550.0, 200.0, 100.0]] * 2)]
    leave_out_the_start(panel, bands)
    np.testing.assert_allclose(panel.get_ylim(), [94, 226])


def test_a_figure_that_rises_and_a_run_that_diverged(panel):
    leave_out_the_start(panel, [np.array([[0.1, 0.8, np.nan, 0.9]] * 2)])
    np.testing.assert_allclose(panel.get_ylim(), [0.795, 0.905])


@pytest.mark.parametrize(
    "bands", [[], [np.array([[3.0], [4.0]])], [np.array([[3.0, 2.0, 1.0]] * 2)], [np.array([[9.0, 1.0, 1.0]] * 2)]]
)
def test_otherwise_the_picture_shows_all(panel, bands):
    before = panel.get_ylim()
    leave_out_the_start(panel, bands)
    assert panel.get_ylim() == before
