"""The page of evidence is what the committed records say."""

import shutil
from pathlib import Path

from experiments.claims import NAMES, claim_named
from experiments.harness import report

ROOT = Path(__file__).parents[2]


def test_page_and_summaries_follow_from_the_records(tmp_path):
    results = tmp_path / "experiments" / "results"
    shutil.copytree(ROOT / "experiments" / "results", results)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path)
    report.write([claim_named(name) for name in NAMES], results, tmp_path)
    committed = [ROOT / "docs" / "evidence.md", ROOT / "README.md", *ROOT.glob("experiments/results/*/summary.json")]
    for path in committed:
        again = tmp_path / path.relative_to(ROOT)
        assert again.read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), "run make evidence"
