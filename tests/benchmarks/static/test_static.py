"""The command: what is compiled, what is said where a compiler is missing, what is written."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.errors import BadInput
from benchmarks.machine import versions
from benchmarks.static import cards, targets
from benchmarks.static import run as static
from benchmarks.static.cases import MAIN, MODELS, Case, Choice, plan, with_schedule
from benchmarks.static.records import Records
from benchmarks.static.report import report
from benchmarks.static.targets import TARGETS

ROOT = Path(__file__).parents[3]
A_CASE = Case("v5e", "ln_lstm", "ours", "256x512x512x512")


def some_figures(**other):
    parts = {"forward": 12.0, "backward": 21.5, "outside": 27}
    return {
        "slow_bytes": {"all": 3 * 2**30, **parts},
        "kernels": parts,
        "collectives": {
            "forward": {},
            "backward": {"all-gather": 1.0, "all-reduce": 2.5},
            "outside": {"all-reduce": 1},
        },
        "multiplications": 1.0,
        "temporary_bytes": 520 * 2**20,
        "compile_cpu_s": 31.2,
        "commit": "0123456789ab",
        **other,
    }


# ---- what is compiled


def test_the_plan_has_every_cell_on_a_tpu_and_on_a_card():
    cases = plan(Choice())
    for target in ("v5e", "h200"):
        found = {(case.model, case.library) for case in cases if (case.target, case.sizes) == (target, MAIN)}
        assert {model for model, library in found if library == "ours"} == set(MODELS)
        assert {("ln_lstm", "linen"), ("lstm", "linen-optimized"), ("lstm", "haiku")} <= found
    assert {case.target for case in cases} == set(TARGETS)
    assert {case.spread for case in cases} == {"none", "batch", "hidden"}
    assert len(set(cases)) == len(cases)


def test_a_choice_narrows_the_plan():
    cases = plan(Choice(targets=["h200"], models=["lstm"], shapes=["2x3x4x5"], libraries=["ours", "haiku"]))
    assert cases == [Case("h200", "lstm", library, "2x3x4x5") for library in ("ours", "haiku")]
    assert {case.library for case in plan(Choice(models=["ln_gru"], libraries=["haiku", "linen"]))} == {"linen"}


def test_what_is_spread_is_placed():
    unplaced = Choice(targets=["v5e"], shapes=["8x16x128x128"], models=["lstm"], libraries=["ours-unplaced"])
    assert len(plan(unplaced)) == 1
    with pytest.raises(BadInput, match="nothing is compiled"):
        plan(unplaced._replace(spreads=["batch"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--targets", "v9"], "--targets: nothing is called v9. Choose from v5e"),
        (["--models", "gru"], "--models: nothing is called gru"),
        (["--shapes", "3x4"], "--shapes: expected batch, steps, inputs and hidden features"),
        (["--shapes", "3x4x0x2"], "got 3x4x0x2"),
        (["--models", "lstm", "--libraries", "linen"], "nothing is compiled"),
        (["--assorted"], "unrecognized arguments: --assorted"),
    ],
)
def test_bad_input_is_one_line(capsys, words, message):
    assert run.main(["static", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_the_schedule_is_read_where_there_is_one():
    assert with_schedule(A_CASE)
    assert not with_schedule(A_CASE._replace(target="h200"))
    assert not with_schedule(A_CASE._replace(library="linen"))


# ---- a compiler that is missing


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(("target", "word"), [("v5e", "libtpu"), ("h200", "JAX's plugin for CUDA")])
def test_without_a_compiler_one_line_says_what_to_do(capsys, tmp_path, target, word):
    assert run.main(["static", "--smoke", "--targets", target, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert f"needs {word}, which is not installed" in printed
    assert f"make bench-{TARGETS[target].platform}" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_targets_that_nobody_asked_for_are_left_out_with_a_word(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: name if name == "libtpu" else None)
    monkeypatch.setattr(static, "compile_apart", lambda case: some_figures())
    assert run.main(["static", "--smoke", "--models", "lstm", "--out", str(tmp_path)]) == 0
    assert "left out: compiling for h200 needs" in capsys.readouterr().err
    assert {case.target for case in Records(tmp_path).figures} == {"v5e", "v6e", "v5p"}


# ---- what is written


@pytest.fixture
def compiled(monkeypatch):
    """The cases that were compiled; those of haiku fail."""
    done = []

    def compile_apart(case):
        done.append(case)
        return "no such thing" if case.library == "haiku" else some_figures()

    monkeypatch.setattr(static, "compile_apart", compile_apart)
    monkeypatch.setattr(static, "why_missing", lambda platform: None)
    return done


def test_a_run_adds_to_its_folder(compiled, tmp_path, capsys):
    words = ["static", "--smoke", "--targets", "v5e", "--models", "lstm", "--out", str(tmp_path)]
    assert run.main(words) == 1, "a case failed"
    assert "failed: v5e lstm haiku 8x16x128x128: no such thing" in capsys.readouterr().err
    assert len(compiled) == 3
    assert run.main([*words, "--libraries", "ours"]) == 0
    assert len(compiled) == 3, "what is there is kept"
    assert run.main([*words, "--libraries", "ours", "--again"]) == 0
    assert len(compiled) == 4
    run.main(["static", "--smoke", "--targets", "h200", "--models", "ln_gru", "--out", str(tmp_path)])
    records = Records(tmp_path)
    assert len(records.figures) == 4
    assert set(records.environments) == {"tpu", "cuda"}
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md"}
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "**v5e, 8x16x128x128**" in text
    assert "**h200, 8x16x128x128**" in text


def test_a_folder_holds_figures_of_one_set_of_versions(compiled, tmp_path, monkeypatch, capsys):
    words = ["static", "--smoke", "--targets", "v5e", "--models", "ln_gru", "--out", str(tmp_path)]
    assert run.main([*words, "--libraries", "ours"]) == 0
    monkeypatch.setattr(static.machine, "versions", lambda packages: {"jax": "9.9"})
    assert run.main(words) == 2
    assert "its figures are of other versions" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"environments": {}}', '{"environments": {}, "figures": [{}]}'])
def test_a_folder_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadInput, match="these are no figures of benchmarks"):
        Records(tmp_path)


def test_the_report_has_every_figure(tmp_path):
    records = Records(tmp_path)
    records.compiled_with("tpu", versions())
    records.add(A_CASE._replace(library="linen"), some_figures())
    records.add(A_CASE, some_figures(bundles=43_253.76, floor_bundles=32_768.0))
    records.add(A_CASE._replace(spread="hidden"), some_figures())
    records.add(A_CASE._replace(model="lstm"), "it failed")
    lines = report(records).splitlines()
    row = "520.0 | 3 | 12.0 | 21.5 |"
    ours, linen = f"| `ln_lstm` | ours | {row} 43,254 / 32,768 = 1.32 | 31 |", f"| `ln_lstm` | linen | {row} - | 31 |"
    assert lines.index(ours) + 1 == lines.index(linen)
    spread = "| v5e | `ln_lstm` | 256x512x512x512 | hidden | none | 1 all-gather, 2.5 all-reduce | 1 all-reduce |"
    assert spread in lines
    assert "- v5e lstm ours 256x512x512x512: it failed" in lines
    assert any(
        line.startswith("- tpu: ") and "jax 0." in line and line.endswith("; commit 0123456789ab") for line in lines
    )


def test_a_card_is_described():
    text = cards.describe(cards.H200)
    assert text.count("{") == text.count("}")
    assert "core_count: 132 fpus_per_core: 128" in text
    assert f"memory_bandwidth: {4_800_000_000_000}" in text
    assert "rate_infos { key: 16 value { clock_rate_ghz: 1.83 units_per_core: 4 ops_per_clock: 512 } }" in text


def test_committed_figures_are_those_of_the_table():
    """The table of each folder is what its figures give."""
    folders = [path.parent for path in (ROOT / "benchmarks" / "results").glob("*-static/results.json")]
    assert folders, "figures are committed"
    for folder in folders:
        assert (folder / "results.md").read_text(encoding="utf-8") == report(Records(folder))


# ---- the compilers


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["v5e", "h200"])
def test_compiles_for_an_accelerator_that_is_not_there(tmp_path, target):
    """Ours and Flax's: the loops and products that both must have."""
    if reason := targets.why_missing(TARGETS[target].platform):
        pytest.skip(reason)
    words = ["static", "--smoke", "--targets", target, "--models", "ln_lstm", "--out", str(tmp_path)]
    environ = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["figures"]
    assert [row["case"][2] for row in rows] == ["ours", "linen"]
    for row in rows:
        assert row["kernels"]["forward"] > 1
        assert row["kernels"]["backward"] > 1
        assert row["slow_bytes"]["all"] > 16 * 8 * 128 * 2, "at least the inputs"
        assert row["compile_cpu_s"] > 0
    if target == "v5e":
        assert rows[1]["multiplications"] == 6 * 8 * 128 * 512, "six products a step"
        assert rows[0]["kernels_without_schedule"] == 0
        assert rows[0]["bundles"] > rows[0]["floor_bundles"] > 0
