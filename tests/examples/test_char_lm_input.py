"""What the program char_lm.py refuses, and how it says so."""

import gzip
import lzma
import subprocess
import sys

import pytest

from tests.examples.char_lm_runs import SCRIPT, TEXT


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
               "--characters", "--limit", "--temperature", "--learning-rates", "--sweep-steps", "--seeds",
               "--processes"]
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


def test_every_preset_makes_a_cell(char_lm):
    from char_lm_support.model import make_cell

    args = char_lm.options.parse(["--smoke", "--models", "lstm,gru", "ln_rnn"])
    assert args.models == ["lstm", "gru", "ln_rnn"]
    assert len(char_lm.options.PRESETS) >= 9
    for name in char_lm.options.PRESETS:
        assert make_cell(name, args.hidden, args.window).hidden_features == args.hidden
    assert make_cell("bn_lstm", args.hidden, args.window).max_steps == args.window


def test_rates_are_tried_once_each_and_the_sweep_is_as_long(char_lm):
    args = char_lm.options.parse(["--learning-rates", "0.1", "0.01", "1e-1", "--steps", "7"])
    assert args.learning_rates == [0.01, 0.1]
    assert args.sweep_steps == 7


def test_an_output_folder_that_cannot_be_written_is_refused(refused, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refused("--smoke", "--out", tmp_path / "file" / "out")


def test_a_folder_needs_one_file_a_part(refused, tmp_path):
    (tmp_path / "a.train.txt").write_text(TEXT)
    assert "no file with 'valid'" in refused("--data", tmp_path)
    (tmp_path / "a.valid.txt").write_text(TEXT)
    (tmp_path / "b.valid.txt").write_text(TEXT)
    assert "exactly one" in refused("--data", tmp_path)


@pytest.mark.long
def test_bad_input_ends_the_process_with_code_two(tmp_path):
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("char_lm.py: --data")
    assert done.stderr.count("\n") == 1
