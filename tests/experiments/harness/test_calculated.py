"""Claims that are calculated in place of trained, and those that run every rate."""

import dataclasses
import json

import pytest

from experiments.claims import invariances
from experiments.harness import plots, report
from experiments.harness.arm import run_arm
from experiments.harness.claim import Agreement, Contrast
from experiments.harness.records import Records
from experiments.harness.summary import judge, summarize


@pytest.fixture
def table(with_rates):
    """Arms with so many cells that differ from the paper."""

    def make(**differing):
        return with_rates(
            arms=differing,
            rates=(),
            calculate=lambda arm, scale, data, seed: {"differing": arm, "seed": seed},
            contrast=Agreement(measure=lambda runs: runs[0].test["differing"], unit="cells", arms=("one", "two")),
        )

    return make


def verdict(claim, out):
    for arm in claim.arms:
        run_arm(claim, arm, scale="small", data=None, out=out, seeds=None, made_by={}, tell=lambda *_: None)
    return judge([summarize(claim, out)])[claim.name]


def test_a_table_that_is_the_papers_is_equal(table, tmp_path):
    claim = table(one=0, two=0, further=3)
    interval, word = verdict(claim, tmp_path)
    assert (interval.mean, word) == (0.0, "equal")
    runs = Records(tmp_path, claim.name).runs(claim.arms)
    assert [run.test["seed"] for run in runs if run.arm == "one"] == [0, 1, 2]
    again = verdict(claim, tmp_path)
    assert again == (interval, word)
    assert len(Records(tmp_path, claim.name).runs(["one"])) == 3


def test_one_cell_that_differs_is_seen(table, tmp_path):
    interval, word = verdict(table(one=0, two=1), tmp_path)
    assert (interval.mean, word) == (1.0, "reversed")


def test_the_report_shows_it(table, tmp_path):
    out = tmp_path / "experiments" / "results"
    claim = table(one=0, two=0)
    verdict(claim, out)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("")
    report.write([claim], out, tmp_path)
    page = (tmp_path / "docs" / "evidence.md").read_text()
    assert "cells: one; two" in page
    row = next(line for line in page.splitlines() if line.startswith("| [1]("))
    assert row.endswith("| +0 [+0, +0] | **equal** |")
    assert json.loads((out / "line" / "summary.json").read_text())["contrast"]["verdict"] == "equal"
    assert not (out / "line" / "curves.png").exists()


def test_a_claim_that_is_calculated_has_nothing_to_train():
    claim = invariances.CLAIM
    with pytest.raises(TypeError, match="calculated"):
        claim.build(claim.arms["none"], claim.scales["smoke"], None)


def test_a_wrong_answer_of_table_1_is_counted():
    layer, answers, sequences = invariances.ARMS["none"]
    sizes = invariances.CLAIM.scales["smoke"]
    assert invariances.calculate((layer, answers, sequences), sizes, None, 1)["differing"] == 0
    assert invariances.calculate((layer, "y" + answers[1:], sequences), sizes, None, 1)["differing"] == 1


def test_every_rate_has_a_picture_of_its_own(with_rates, tmp_path):
    claim = with_rates(every_rate=True, seeds=2)
    for arm in claim.arms:
        run_arm(claim, arm, scale="small", data=None, out=tmp_path, seeds=None, made_by={}, tell=lambda *_: None)
    runs = Records(tmp_path, claim.name).runs(claim.arms)
    found = plots.pictures(claim, runs, tmp_path / claim.name)
    assert list(found) == ["rates.png"]
    lines = {line.get_label(): line for line in found["rates.png"].axes[0].get_lines()}
    ends = [sum(run.curve["valid_gap"][-1] for run in runs if (run.arm, run.rate) == ("once", rate)) / 2
            for rate in claim.rates]  # fmt: skip
    assert lines["once"].get_ydata() == pytest.approx(ends)
    assert lines["once"].get_xdata() == pytest.approx(list(claim.rates))


def test_the_best_of_several_arms_is_compared():
    contrast = Contrast(measure=len, unit="", arm="a", or_best_of=("b",), baseline="c", margin=0.0)
    figures = {"a": {0: 3.0, 1: 5.0, 2: 0.0}, "b": {0: 4.0, 1: 2.0}, "c": {0: 1.0, 1: 1.5, 2: 9.0}}
    assert contrast.differences(figures) == [3.0, 0.5]
    assert dataclasses.replace(contrast, better="higher").differences(figures) == [2.0, 3.5]
    assert contrast.title == "best of (a; b) minus c"
