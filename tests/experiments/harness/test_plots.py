"""What the picture of a claim shows of its curves."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from experiments.harness.plots import curves, leave_out_the_start
from experiments.harness.records import Run


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


def test_the_sweep_shows_the_figure_that_chooses_and_the_rate_chosen(with_rates):
    claim = with_rates()
    swept = {0.01: [3.0, 2.0, 1.0], 0.03: [3.0, 1.0, 1.0], 0.1: [3.0, 0.5, 0.1]}

    def run(rate, phase, values, diverged=None):
        steps = [0, 2, 4][: len(values)]
        curve = {"step": steps, "seconds": [0.0, 1.0, 2.0][: len(values)], "valid_gap": values}
        return Run(claim="line", arm="once", scale="small", phase=phase, rate=rate, seed=0, steps=4, curve=curve,
                   diverged=diverged)  # fmt: skip

    runs = [run(rate, "sweep", values) for rate, values in swept.items()]
    runs += [run(0.3, "sweep", [3.0], diverged=1), run(0.03, "final", [3.0, 1.0, 0.9])]
    figure = curves(claim, runs)
    line, ring, cross = figure.axes[2].get_lines()[:3]
    areas = [claim.contrast.measure([one]) for one in runs[:3]]
    np.testing.assert_allclose(line.get_ydata(), [*areas, np.nan])
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([0.03], [areas[1]])
    assert list(cross.get_xdata()) == [0.3]
    plt.close(figure)


def test_arms_of_different_kinds_have_a_row_each(with_rates):
    figure = curves(with_rates(axes={"meters": ["once"], "bits": ["twice"]}), [])
    assert [panel.get_ylabel() for panel in figure.axes[::3]] == ["meters", "bits"]
    plt.close(figure)
