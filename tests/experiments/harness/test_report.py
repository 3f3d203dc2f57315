import json

import numpy as np

from experiments.harness import report, statistics
from experiments.harness.arm import run_arm
from experiments.harness.summary import judge, summarize


def records(claim, out):
    for arm in claim.arms:
        run_arm(claim, arm, scale="small", data=None, out=out, seeds=None, made_by={}, tell=lambda *_: None)


def test_the_difference_is_paired_by_seed(claim, tmp_path):
    records(claim, tmp_path)
    summary = summarize(claim, tmp_path)
    by_name = {arm.arm: arm for arm in summary.arms}
    expected = [by_name["twice"].figures[seed] - by_name["once"].figures[seed] for seed in range(3)]
    np.testing.assert_array_equal(summary.differences, expected)
    interval, _ = judge([summary])["line"]
    assert interval == statistics.holm({"line": expected})["line"]
    assert summary.complete


def test_a_claim_without_all_seeds_has_no_verdict(claim, with_rates, tmp_path):
    records(claim, tmp_path)
    summary = summarize(with_rates(seeds=4), tmp_path)
    assert not summary.complete
    assert judge([summary]) == {}


def test_seeds_beyond_the_plan_change_no_verdict(claim, with_rates, tmp_path):
    records(with_rates(seeds=5), tmp_path)
    more, planned = summarize(claim, tmp_path), summarize(with_rates(seeds=5), tmp_path).differences[:3]
    assert more.differences == planned
    assert all(len(arm.figures) == 5 for arm in more.arms)


def test_the_same_records_give_the_same_bytes(claim, tmp_path):
    out = tmp_path / "experiments" / "results"
    records(claim, out)
    written = []
    for _ in range(2):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        written.append({path: path.read_bytes() for path in report.write([claim], out, tmp_path)})
    assert written[0] == written[1]
    names = {path.relative_to(tmp_path).as_posix() for path in written[0]}
    assert names == {"docs/evidence.md", "README.md", "experiments/results/line/summary.json",
                     "experiments/results/line/curves.png", "experiments/results/verdicts.png"}  # fmt: skip
    readme = (tmp_path / "README.md").read_text()
    assert "old" not in readme
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "| undecided | [line](docs/evidence.md#evidence-line) |" in readme
    page = (tmp_path / "docs" / "evidence.md").read_text()
    assert "../experiments/results/line/curves.png" in page
    assert "smoke" not in page
    assert "once" in page
    found = json.loads((out / "line" / "summary.json").read_text())
    assert len(found["contrast"]["by_seed"]) == 3
    row = next(line for line in page.splitlines() if line.startswith("| [1]("))
    assert row.endswith(f"| **{found['contrast']['verdict']}** |")


def test_claims_that_were_not_run_are_named(claim, with_rates, tmp_path):
    out = tmp_path / "experiments" / "results"
    records(claim, out)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing to fill in")
    report.write([claim, with_rates(name="other", number=2)], out, tmp_path)
    assert "not run yet" in (tmp_path / "docs" / "evidence.md").read_text()
    assert (tmp_path / "README.md").read_text() == "nothing to fill in"
