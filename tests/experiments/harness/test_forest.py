"""The picture of all verdicts: units, sides, and the words beside the intervals."""

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from experiments.claims import NAMES, claim_named
from experiments.harness import forest
from experiments.harness.statistics import Interval, as_claimed, verdict

CLAIMS = {name: claim_named(name) for name in NAMES}


def rows(**judged):
    found = {name: (Interval(mean, low, high, 0.01, 0.99), word) for name, (low, mean, high, word) in judged.items()}
    return {row.name: row for row in forest.rows(list(CLAIMS.values()), found)}


def test_differences_are_in_margins_and_to_the_right_where_the_arm_is_better():
    margin = CLAIMS["mnist"].contrast.margin  # an error: lower is better
    found = rows(mnist=(-6 * margin, -4 * margin, -2 * margin, "holds"))["mnist"]
    assert found.interval == pytest.approx((2, 4, 6))
    assert found.as_claimed
    margin = CLAIMS["permuted_mnist"].contrast.margin  # an accuracy: higher is better
    found = rows(permuted_mnist=(-6 * margin, -4 * margin, -2 * margin, "reversed"))["permuted mnist"]
    assert found.interval == pytest.approx((-6, -4, -2))
    assert not found.as_claimed


def test_where_the_margin_is_zero_the_unit_is_one():
    assert rows(invariances=(1.0, 2.0, 3.0, "reversed"))["invariances"].interval == (-3, -2, -1)


@pytest.mark.parametrize("name", NAMES)
def test_the_shaded_side_is_where_verdicts_are_as_claimed(name):
    contrast = CLAIMS[name].contrast
    unit = (1 if contrast.better == "higher" else -1) * (contrast.margin or 1.0)
    low, high = forest.region(contrast.claimed)
    for center in np.linspace(-3, 3, 25):  # of intervals so narrow that they lie on one side of every border
        ends = sorted(unit * (center + side) for side in (-1e-3, 1e-3))
        word = verdict(Interval(unit * center, *ends, 0.01, 0.99), contrast)
        inside = low <= center - 1e-3 and center + 1e-3 <= high
        if contrast.margin == 0 and abs(center) > 1e-3:
            assert not as_claimed(word, contrast)  # the picture cannot show a region of no width
        elif contrast.margin:
            assert as_claimed(word, contrast) == inside, (center, word)


def test_every_claim_has_a_row_and_those_that_were_not_run_say_so():
    shown = rows(mnist=(-1.0, 0.0, 1.0, "undecided"), reader=(-math.inf, 0.0, math.inf, "undecided"))
    figure = forest.figure(list(shown.values()))
    (panel,) = figure.axes
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == [f"{claim.name.replace('_', ' ')}  {claim.number}" for claim in CLAIMS.values()]
    words = [text.get_text() for text in panel.texts]
    assert words == ["undecided", "undecided", *["not run yet"] * 15]
    figure.draw_without_rendering()  # unbounded intervals end where the axis does
    ends = [line.get_xdata() for line in panel.get_lines() if len(line.get_xdata()) == 2]
    assert all(abs(x) <= forest.FARTHEST for line in ends for x in line)
