"""The main job: what it shows, what it refuses, and that a killed run ends at the same numbers."""

import gzip
import json
import lzma
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest

for library in ("orbax.checkpoint", "rich"):
    pytest.importorskip(library, reason=f"the example needs {library}: pip install jaxnorm[examples]")

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "char_lm.py"
PTB = EXAMPLES.parents[1] / "shared" / "data" / "ptb"
sys.path.insert(0, str(EXAMPLES))

import char_lm
from char_lm_support import report, run_folder, text
from char_lm_support.errors import BadInput
from char_lm_support.options import PRESETS

TEXT = "the quick brown fox jumps over the lazy dog; élan, naïve.\n" * 40
TINY = ["--smoke", "--models", "bn_lstm", "--hidden", "4", "--batch", "2", "--window", "4", "--limit", "900"]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def numbers(folder: Path) -> list[dict]:
    """The metrics without what the clock says."""
    clock = ("seconds", "ms_per_step")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines(folder)]


def assert_same(got: list[dict], expected: list[dict]) -> None:
    assert [line.keys() for line in got] == [line.keys() for line in expected]
    for a, b in zip(got, expected, strict=True):
        for key, value in b.items():
            assert a[key] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-6)), (key, a, b)


@pytest.fixture(scope="module", autouse=True)
def promotion_that_optax_can_take():
    """optax.adam raises a float to an integer power, which the suite's strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def refused(capsys):
    """Runs the program in this process and returns the one line with which it refuses."""

    def run(*argv: object) -> str:
        assert char_lm.main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        assert err.count("\n") == 1, err
        assert "Traceback" not in out + err
        return err

    return run


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (None, "nothing.txt", "no such file"),
        (b"", "empty.txt", "empty"),
        (b"too little", "short.txt", "too short"),
        ("naïve".encode("latin-1") * 99, "latin.txt", "not UTF-8"),
        (b"no gzip at all", "broken.gz", "damaged .gz"),
        (gzip.compress(TEXT.encode())[:-20], "cut.gz", "damaged .gz"),
        (lzma.compress(TEXT.encode())[:-20], "cut.xz", "damaged .xz"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_bad_data_is_refused(refused, tmp_path, content, name, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message = refused("--data", tmp_path / name, "--out", tmp_path / "out")
    assert says in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", ["--hidden", "--batch", "--window", "--passage", "--steps", "--eval-every", "--checkpoint-every",
               "--characters", "--limit", "--temperature", "--learning-rate"]
)  # fmt: skip
@pytest.mark.parametrize("value", ["0", "-3", "nan", "many"])
def test_sizes_must_be_positive(refused, option, value):
    message = refused(option, value)
    assert option in message
    assert "above zero" in message


def test_an_unknown_preset_is_answered_with_the_right_ones(refused):
    message = refused("--models", "lstm,ln_lsmt")
    assert "ln_lsmt" in message
    assert all(name in message for name in ("elman", "lstm", "gru", "ln_rnn", "ln_lstm", "ln_gru", "rms_lstm",
                                            "rms_gru", "bn_lstm"))  # fmt: skip


def test_every_preset_makes_a_cell():
    args = char_lm.options.parse(["--smoke", "--models", "lstm,gru", "ln_rnn"])
    assert args.models == ["lstm", "gru", "ln_rnn"]
    assert len(PRESETS) >= 9
    for name in PRESETS:
        assert char_lm.make_cell(name, args).hidden_features == args.hidden
    assert char_lm.make_cell("bn_lstm", args).max_steps == args.window


def test_an_output_folder_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refused("--smoke", "--out", tmp_path / "file" / "out")


def test_a_folder_needs_one_file_a_part(refused, tmp_path):
    (tmp_path / "a.train.txt").write_text(TEXT)
    assert "no file with 'valid'" in refused("--data", tmp_path)
    (tmp_path / "a.valid.txt").write_text(TEXT)
    (tmp_path / "b.valid.txt").write_text(TEXT)
    assert "exactly one" in refused("--data", tmp_path)


def test_the_same_text_in_every_form(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "a.xz").write_bytes(lzma.compress(TEXT.encode()))
    texts = [text.load(str(tmp_path / name), 0.1) for name in ("a.txt", "a.gz", "a.xz")]
    assert {t.sha256 for t in texts} == {texts[0].sha256}
    assert texts[0].train + texts[0].valid == TEXT
    assert len(texts[0].valid) == round(0.1 * len(TEXT))


def test_a_folder_of_plain_text_stays_as_it_is(tmp_path):
    for part, content in (("training", "ab c\n"), ("validation", " x\n"), ("test", "b\n")):
        (tmp_path / f"my.{part}.txt").write_text(content)
    found = text.load(str(tmp_path), 0.5)
    assert found[1:] == ("ab c\n", " x\n", "b\n")
    ids = text.encode("axb", found.vocabulary)
    assert [found.vocabulary[k] for k in ids] == ["a", text.UNKNOWN, "b"]
    assert "1 held-out characters do not occur in training" in found.describe()


def test_lines_of_words_take_the_underscore_form(tmp_path):
    for part in ("train", "valid"):
        with lzma.open(tmp_path / f"w.{part}.txt.xz", "wt") as file:
            file.write(" no it was n't \n <unk> N \n")
    found = text.load(str(tmp_path), 0.1)
    assert found.train == found.valid == "no_it_was_n't\n<unk>_N\n"
    assert found.test == ""
    assert "became _" in found.source


@pytest.mark.skipif(
    not PTB.is_dir(), reason="the Penn Treebank files are not beside this checkout (../shared/data/ptb)"
)
def test_penn_treebank_has_its_known_sizes():
    found = text.load(str(PTB), 0.1)
    assert [len(part) for part in found[1:]] == [5_017_482, 393_042, 442_423]
    assert len(found.vocabulary) - 1 == 50


def test_windows_hold_every_character_once():
    inputs, targets = text.in_windows(np.arange(100, dtype=np.int32), window=8, batch=3)
    real = targets >= 0
    assert inputs.shape == targets.shape == (5, 8, 3)
    np.testing.assert_array_equal(np.asarray(targets)[real], np.asarray(inputs)[real] + 1)
    assert sorted(np.asarray(targets)[real]) == list(range(1, 100))


def test_the_table_has_a_dash_where_there_is_nothing_to_say():
    row = {"model": "lstm", "parameters": 1234, "train_bpc": 1.0, "valid_bpc": 2.0, "gradient_norm": 0.5,
           "ms_per_step": 3.0, "memory_mib": 4.0}  # fmt: skip
    plain = report.table([row])
    assert [str(column.header).split("\n")[0] for column in plain.columns] == [
        "model", "parameters", "train", "valid", "running", "population", "gradient", "ms per",
        "peak memory"]  # fmt: skip
    assert [next(iter(column.cells)) for column in plain.columns][4:6] == ["-", "-"]
    assert len(report.table([row | {"test_bpc": 1.5}]).columns) == len(plain.columns) + 1


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """One uninterrupted run of a few steps."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    argv = [*TINY, "--steps", "60", "--checkpoint-every", "10", "--eval-every", "15"]
    argv += ["--data", str(folder / "text.txt")]
    assert char_lm.main([*argv, "--out", str(folder / "out")]) == 0
    return argv, folder / "out"


@pytest.mark.long
def test_a_run_leaves_table_picture_metrics_and_samples(whole_run):
    _, folder = whole_run
    found = lines(folder)
    assert [line["step"] for line in found] == [15, 30, 45, 60, 60]
    final = found[-1]
    assert final["kind"] == "final"
    assert found[0]["valid_bpc"] > found[3]["valid_bpc"] > 0
    assert final["running_bpc"] == final["valid_bpc"] != final["population_bpc"]
    assert final["memory_mib"] > 0
    assert final["ms_per_step"] > 0
    image = matplotlib.image.imread(folder / "curves.png")
    assert image.shape[0] > 500
    assert image.shape[1] > 1000
    assert image.std() > 0.01
    sample = (folder / "samples.txt").read_text(encoding="utf-8")
    assert sample.startswith("--- bn_lstm ---\n")
    assert len(sample) == len("--- bn_lstm ---\n") + 40 + 1


@pytest.mark.long
def test_a_folder_with_a_run_is_left_alone(whole_run, refused):
    argv, folder = whole_run
    before = (folder / "metrics.jsonl").read_bytes()
    assert "--overwrite" in refused(*argv, "--out", folder)
    message = refused(*argv, "--out", folder, "--resume", "--hidden", 5)
    assert "hidden was 4, is 5" in message
    assert "text_sha256" in refused(*argv, "--out", folder, "--resume", "--limit", 901)
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
def test_a_checkpoint_holds_what_was_when_it_was_saved(tmp_path):
    """It is written in the background, while training goes on to append to the very same lists."""
    checkpoints = run_folder.Checkpoints(tmp_path / "model")
    progress = run_folder.Progress([{"step": 1}], [2.5], 1.0)
    state = {"w": jax.numpy.arange(3.0)}
    checkpoints.save(1, state, progress)
    progress.bits.append(7.0)
    progress.records[0]["step"] = 2
    checkpoints.close()
    _, restored = run_folder.Checkpoints(tmp_path / "model").restore(state)
    assert restored == ([{"step": 1}], [2.5], 1.0)


@pytest.mark.long
# Threads of tensorstore that read the damaged files report to an event loop that orbax has closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_resume_passes_over_checkpoints_that_are_not_whole(whole_run, tmp_path, capsys):
    """Truncated, empty and uncommitted ones: training goes on from the last whole one, to the same numbers."""
    argv, folder = whole_run
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    steps = copy / "checkpoints" / "bn_lstm"
    assert {entry.name for entry in steps.iterdir()} == {"50", "60"}
    for file in (steps / "60").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:10])
    (steps / "70").mkdir()
    shutil.copytree(steps / "50", steps / "80.orbax-checkpoint-tmp-1")
    with open(copy / "metrics.jsonl", "a") as file:
        file.write('{"model": "bn_lstm", "st')
    assert char_lm.main([*argv, "--out", str(copy), "--resume"]) == 0
    err = capsys.readouterr().err
    assert "checkpoint 70 is not whole" in err
    assert "checkpoint 60 is not whole" in err
    assert_same(numbers(copy), numbers(folder))


@pytest.mark.long
def test_a_checkpoint_with_another_digest_is_not_used(tmp_path, monkeypatch, capsys):
    """Arrays that differ from what was saved are noticed even where every file can be read."""
    state = {"a": np.arange(3.0)}
    for step in (1, 2):
        with monkeypatch.context() as patch:
            if step == 2:
                patch.setattr(run_folder, "_digest", lambda tree: "that of other numbers")
            store = run_folder.Checkpoints(tmp_path / "checkpoints")
            store.save(step, state, run_folder.Progress([], [float(step)], 2.0))
            store.close()
    found = run_folder.Checkpoints(tmp_path / "checkpoints").restore(state)
    assert found is not None
    assert found[1].bits == [1.0]
    assert "checkpoint 2 is not whole" in capsys.readouterr().err


@pytest.mark.long
def test_after_sigkills_a_run_ends_at_the_same_numbers(whole_run, tmp_path):
    """The real thing: processes killed at arbitrary moments, the last one left to finish."""
    argv, folder = whole_run
    out = tmp_path / "out"
    steps = out / "checkpoints" / "bn_lstm"
    command = [sys.executable, str(SCRIPT), *argv, "--out", str(out), "--resume"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 1800
        while not (steps.is_dir() and any(entry.name.isdigit() for entry in steps.iterdir())):
            assert process.poll() is None, "the run ended before its first checkpoint"
            assert time.monotonic() < deadline, "no checkpoint in half an hour"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert char_lm.main(command[2:]) == 0
    assert_same(numbers(out), numbers(folder))


@pytest.mark.long
def test_bad_input_ends_the_process_with_code_two(tmp_path):
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("char_lm.py: --data")
    assert done.stderr.count("\n") == 1


def test_a_wrong_text_raises_one_kind_of_error(tmp_path):
    with pytest.raises(BadInput, match="there is no such file"):
        text.load(str(tmp_path / "nothing"), 0.1)
