import dataclasses
import math

import numpy as np
import pytest

from experiments.harness import measures
from experiments.harness.records import Run


def run(values, steps=None, *, length=None, rate=0.1, diverged=None, test=None):
    steps = list(range(0, 10 * len(values), 10)) if steps is None else steps
    return Run(claim="c", arm="a", scale="small", phase="final", rate=rate, seed=0, steps=length or steps[-1],
               curve={"step": steps, "valid_x": values}, diverged=diverged, test=test or {})  # fmt: skip


def test_area_is_the_mean_of_straight_lines():
    assert measures.area("valid_x", 9.0)([run([4.0, 2.0, 1.0], [0, 10, 40])]) == pytest.approx((30 + 45) / 40)


@pytest.mark.parametrize(("diverged", "area"), [(12, 30 + 2 * 5 + 28 * 8), (11, 30 + 5 + 29 * 8), (40, 30 + 30 * 5)])
def test_area_of_a_run_that_diverged_is_at_chance_from_there_on(diverged, area):
    # It falls from 4 to 2 in 10 steps, then rises to 8 until it diverges.
    found = measures.area("valid_x", 8.0)([run([4.0, 2.0], [0, 10], length=40, diverged=diverged)])
    assert found == pytest.approx(area / 40)


def test_missing_figures_count_as_chance():
    assert measures.last("valid_x", 5.0)([run([1.0, None])]) == 5.0
    assert measures.best("valid_x", 5.0)([run([2.0, None, 1.5])]) == 1.5
    assert measures.best("valid_x", 0.0, "higher")([run([2.0, None, 1.5])]) == 2.0


def test_tested_reads_validation_where_nothing_was_tested():
    assert measures.tested("x", 5.0)([run([3.0, 2.0], test={"test_x": 1.0})]) == 1.0
    assert measures.tested("x", 5.0)([run([3.0, 2.0])]) == 2.0
    assert measures.tested("x", 5.0)([run([3.0, 2.0], diverged=12)]) == 5.0


def test_given_reads_the_last_test():
    assert measures.given("test_x", 5.0)([run([3.0], test={"test_x": 1.5})]) == 1.5
    assert measures.given("test_x", 5.0)([run([3.0])]) == 5.0


def test_early_is_the_first_evaluation_after_a_share_of_the_run():
    curve = run([7.0, 4.0, 2.0], [0, 10, 40])
    assert [measures.early("valid_x", share)([curve]) for share in (0.0, 0.05, 0.25, 0.3, 1.0)] == [7, 4, 4, 2, 2]
    assert math.isnan(measures.early("valid_x", 0.5)([run([7.0, 4.0], [0, 10], length=40, diverged=12)]))


def test_at_seconds_is_a_straight_line_between_evaluations():
    found = run([4.0, 2.0, 1.0])
    found.curve["seconds"] = [0.0, 8.0, 20.0]
    assert measures.at_seconds("valid_x", 2.0, 9.0)([found]) == 3.5
    assert measures.at_seconds("valid_x", 14.0, 9.0)([found]) == 1.5
    assert measures.at_seconds("valid_x", 90.0, 9.0)([found]) == 1.0  # it had ended
    gone = dataclasses.replace(found, diverged=25)
    assert measures.at_seconds("valid_x", 20.0, 9.0)([gone]) == 1.0
    assert measures.at_seconds("valid_x", 21.0, 9.0)([gone]) == 9.0


def test_steps_to_a_target_between_evaluations():
    found = measures.log2_steps_to("valid_x", 2.5)([run([4.0, 3.0, 1.0])])
    assert found == pytest.approx(math.log2(10 + 10 * 0.25))
    assert measures.log2_steps_to("valid_x", 0.5)([run([4.0, 3.0, 1.0])]) == math.log2(40)
    higher = measures.log2_steps_to("valid_x", 2.0, "higher")([run([1.0, 3.0])])
    assert higher == pytest.approx(math.log2(5))


def test_width_in_octaves():
    # Ends of 1.0, 1.0 and 2.0 at rates of 1, 2 and 8: all of the first octave, and a tenth of the next two.
    runs = [run([5.0, end], rate=rate) for rate, end in ((8.0, 2.0), (1.0, 1.0), (2.0, 1.0))]
    assert measures.width("valid_x", 0.1, 5.0)(runs) == pytest.approx(1.2, abs=0.01)
    diverged = [*runs[1:], run([5.0, 1.0], rate=4.0, diverged=3)]
    assert measures.width("valid_x", 0.1, 5.0)(diverged) == pytest.approx(1 + 0.1 / 4, abs=0.01)


def test_one_run_is_asked_for():
    with pytest.raises(ValueError, match="unpack"):
        measures.last("valid_x", 1.0)([run([1.0]), run([2.0])])
    assert np.isfinite(measures.last("valid_x", 1.0)([run([1.0])]))
