"""A run of char_lm.py that is killed, resumed or begun again ends at the same numbers, and needs no options for it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import matplotlib.image
import numpy as np
import pytest

from tests.examples.char_lm_runs import SCRIPT, TINY, assert_same, lines, numbers


@pytest.mark.long
def test_a_run_leaves_pictures_metrics_and_samples(whole_run):
    _, folder = whole_run
    found = lines(folder)
    assert [(line["phase"], line["seed"], line["step"]) for line in found] == [
        ("sweep", None, 5), ("sweep", None, 5), *(("final", 0, step) for step in (15, 30, 40, 40)),
        *(("final", 1, step) for step in (15, 30, 40, 40))]  # fmt: skip
    swept, final = found[:2], found[5]
    assert [line["rate"] for line in swept] == [0.004, 0.02]
    best = min(swept, key=lambda line: line["valid_bpc"])["rate"]
    assert {line["rate"] for line in found[2:]} == {best}
    assert final["kind"] == "final"
    assert found[2]["valid_bpc"] > found[4]["valid_bpc"] > 0
    assert final["valid_bpc"] == found[4]["valid_bpc"] != final["population_bpc"]
    assert found[4]["valid_bpc"] != found[8]["valid_bpc"], "seeds differ"
    assert final["memory_mib"] > 0
    assert final["ms_per_step"] > 0
    for picture in ("curves.png", "rates.png"):
        image = matplotlib.image.imread(folder / picture)
        assert min(image.shape[:2]) > 500
        assert image.std() > 0.01
    sample = (folder / "samples.txt").read_text(encoding="utf-8")
    assert sample.startswith("--- bn_lstm ---\n")
    assert len(sample) == len("--- bn_lstm ---\n") + 40 + 1


@pytest.mark.long
def test_what_has_ended_is_shown_and_not_trained_again(char_lm, whole_run, monkeypatch, capsys):
    """The same command, and --resume alone: both show the result of the finished model."""
    argv, folder = whole_run
    before = (folder / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(char_lm.training, "train_model", lambda *_: pytest.fail("it has been trained"))
    for words in ([*argv, "--out", folder], ["--resume", "--out", folder]):
        assert char_lm.main([str(word) for word in words]) == 0
        out = capsys.readouterr().out
        assert "bn_lstm" in out
        assert "bpc at 0.0" in out
        assert "octaves" in out
        assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.long
def test_a_folder_with_another_run_is_left_alone(whole_run, refused):
    argv, folder = whole_run
    before = (folder / "metrics.jsonl").read_bytes()
    message = refused(*argv, "--out", folder, "--hidden", 5)
    assert "hidden was 4, is 5" in message
    assert "--overwrite" in message
    assert "seeds was 2, is 3" in refused("--out", folder, "--resume", "--seeds", 3)
    assert "text_sha256" in refused("--out", folder, "--resume", "--limit", 901)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_resume_reads_every_option_from_the_folder(char_lm, tmp_path, monkeypatch):
    """The text is found from another folder, too."""
    words = ["--batch", "1", "--held-out", "0.25", "--models", "lstm,gru", "--seed", "7", "--steps", "9", *TINY]
    (tmp_path / "elsewhere").mkdir()
    for more in ([], ["--smoke", "--data", "a text"], ["--learning-rates", "1e-5", "0.3", "1"]):
        monkeypatch.chdir(tmp_path)
        args = char_lm.options.parse([*words, *more, "--out", str(tmp_path / "out"), "--overwrite"])
        char_lm.RunFolder(args, "of the text")
        monkeypatch.chdir(tmp_path / "elsewhere")
        again = char_lm.options.parse(["--resume", "--out", args.out, "--processes", "2"])
        expected = {
            **vars(args),
            "data": args.data and str(tmp_path / "a text"),
            "resume": True,
            "overwrite": False,
            "processes": 2,
        }
        assert vars(again) == expected
    assert char_lm.options.parse(["--resume", "--out", args.out, "--hidden", "6"]).hidden == 6


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no run in"), ('{"hidd', "damaged"), ("[]", "damaged"), ('{"hidden": "many"}', "above zero"),
     ('{"learning_speed": 1}', "learning-speed"), ('{"models": ["lsmt"]}', "lsmt")],
    ids=["none", "cut", "a list", "no number", "another option", "no model"],
)  # fmt: skip
def test_resume_without_a_run_is_refused(refused, tmp_path, content, says):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    message = refused("--resume", "--out", tmp_path)
    assert says in message
    assert "--resume" in message or "--overwrite" in message or "--models" in message


def test_a_folder_where_a_program_is_at_work_is_left_alone(char_lm, refused, tmp_path):
    """Also by --overwrite, and no longer than that program runs."""
    from char_lm_support.lock import alone_in

    pytest.importorskip("fcntl")
    with alone_in(tmp_path):
        assert "another program" in refused("--smoke", "--out", tmp_path, "--overwrite")
    with alone_in(tmp_path):
        pass


def test_overwrite_leaves_nothing_of_the_run_before(char_lm, tmp_path):
    from char_lm_support.run_folder import Run

    args = char_lm.options.parse(["--out", str(tmp_path / "out"), "--overwrite"])
    folder = char_lm.RunFolder(args, "of the text")
    run = Run(0.1)
    folder.finish("lstm", run, {"records": []})
    folder.write("metrics.jsonl", "{}\n")
    folder = char_lm.RunFolder(args, "of the text")
    assert folder.result("lstm", run) is None
    assert sorted(file.name for file in folder.path.iterdir()) == ["config.json"]


@pytest.mark.long
# Threads of tensorstore that read the damaged files report to an event loop that orbax has closed by then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_resume_passes_over_checkpoints_that_are_not_whole(char_lm, whole_run, tmp_path, capsys):
    """Truncated, empty and uncommitted ones: training goes on from the last whole one, to the same numbers."""
    _, folder = whole_run
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    steps = copy / "models" / "bn_lstm" / "checkpoints" / "final-0"
    assert {entry.name for entry in steps.iterdir()} == {"30", "40"}
    for file in (steps / "40").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:10])
    (steps / "50").mkdir()
    shutil.copytree(steps / "30", steps / "60.orbax-checkpoint-tmp-1")
    (copy / "models" / "bn_lstm" / "final-0.json").unlink()
    (copy / "models" / "bn_lstm" / "final-1.json.tmp").write_text('{"records": [')
    assert char_lm.main(["--out", str(copy), "--resume"]) == 0
    err = capsys.readouterr().err
    assert "checkpoint 50 is not whole" in err
    assert "checkpoint 40 is not whole" in err
    assert_same(numbers(lines(copy)), numbers(lines(folder)))


@pytest.mark.long
def test_after_sigkills_a_run_ends_at_the_same_numbers(char_lm, whole_run, tmp_path):
    """The real thing: a process killed at an arbitrary moment, in the sweep or after, and resumed without options."""
    argv, folder = whole_run
    out = tmp_path / "out"
    place = out / "models" / "bn_lstm"
    awaited = random.choice([place / "sweep-0.004.json", place / "checkpoints" / "final-0" / "10"])
    command = [sys.executable, str(SCRIPT), *argv, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 1800
        while not awaited.exists():
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline, "no checkpoint in half an hour"
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "metrics.jsonl").exists()
    assert char_lm.main(["--resume", "--out", str(out)]) == 0
    assert_same(numbers(lines(out)), numbers(lines(folder)))


@pytest.mark.long
def test_a_model_is_trained_at_its_own_best_rate(char_lm, tmp_path, monkeypatch):
    """The sweep's seed is its own, and what has ended is asked for, not made again."""
    best, ran = {"lstm": 0.1, "gru": 0.2}, []

    class Trainer:
        def __init__(self, name, *_):
            self.name = name

        def run(self, run, tell):
            ran.append((self.name, run.phase, run.rate, run.seed))
            tell(1, 2.0)
            return {"records": [{"valid_bpc": abs(np.log(run.rate / best[self.name]))}]}

    monkeypatch.setattr(char_lm.training, "Trainer", Trainer)
    args = char_lm.options.parse(["--learning-rates", "0.1", "0.2", "0.4", "--seeds", "2", "--steps", "10"])
    told = []
    for name in best:
        char_lm.training.train_model(name, args, None, None, lambda number, *_: told.append(number))
    assert ran[:5] == [("lstm", "sweep", rate, None) for rate in (0.1, 0.2, 0.4)] + [
        ("lstm", "final", 0.1, 0), ("lstm", "final", 0.1, 1)]  # fmt: skip
    assert ran[8:] == [("gru", "final", 0.2, 0), ("gru", "final", 0.2, 1)]
    assert told[:6] == [0, 1, 11, 21, 31, 41]
    assert char_lm.training.steps_in_all(args) == 50


def test_a_run_that_diverges_ends_there(char_lm, tmp_path):
    """Its last figure is null, which JSON knows, and no checkpoint holds what came after."""
    from char_lm_support.run_folder import Run
    from char_lm_support.training import Trainer

    words = ["--smoke", *TINY, "--models", "elman", "--steps", "8", "--checkpoint-every", "1", "--out", str(tmp_path)]
    args = char_lm.options.parse(words)
    trainer = Trainer("elman", args, char_lm.text.load(None, 0.1, 900), char_lm.RunFolder(args, "of the text"))
    kept = trainer.step

    class Step:
        """The loss is no number from the third step on."""

        mebibytes, compile = 1.0, kept.compile

        def __call__(self, state, *rest):
            state, bits, norm = kept(state, *rest)
            return state, np.where(state.step < 3, bits, np.nan), norm

    trainer.step = Step()
    result = trainer.run(Run(0.1, 0), lambda *_: None)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [record["step"] for record in result["records"]] == [3]
    assert result["records"][0]["train_bpc"] is None
    assert {entry.name for entry in (tmp_path / "models/elman/checkpoints/final-0").iterdir()} == {"1", "2"}


@pytest.mark.long
def test_a_checkpoint_holds_what_was_when_it_was_saved(char_lm, tmp_path):
    """It is written in the background, while training goes on to append to the very same lists."""
    from char_lm_support.checkpoints import Checkpoints, Progress

    checkpoints = Checkpoints(tmp_path / "model")
    progress = Progress([{"step": 1}], [2.5], 1.0)
    state = {"w": jax.numpy.arange(3.0)}
    checkpoints.save(1, state, progress)
    progress.bits.append(7.0)
    progress.records[0]["step"] = 2
    checkpoints.close()
    _, restored = Checkpoints(tmp_path / "model").restore(state)
    assert restored == ([{"step": 1}], [2.5], 1.0)


@pytest.mark.long
def test_a_checkpoint_with_another_digest_is_not_used(char_lm, tmp_path, monkeypatch, capsys):
    """Arrays that differ from what was saved are noticed even where every file can be read."""
    from char_lm_support import checkpoints

    state = {"a": np.arange(3.0)}
    for step in (1, 2):
        with monkeypatch.context() as patch:
            if step == 2:
                patch.setattr(checkpoints, "_digest", lambda tree: "that of other numbers")
            store = checkpoints.Checkpoints(tmp_path / "checkpoints")
            store.save(step, state, checkpoints.Progress([], [float(step)], 2.0))
            store.close()
    found = checkpoints.Checkpoints(tmp_path / "checkpoints").restore(state)
    assert found is not None
    assert found[1].bits == [1.0]
    assert "checkpoint 2 is not whole" in capsys.readouterr().err
