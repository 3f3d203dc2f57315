"""The program train_distributed.py in one process: its numbers on meshes, its text, its files and what it refuses."""

import errno
import json
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.examples.train_distributed_runs import TINY, lines, losses, program
from tests.tools.annotations import no_annotation_checks

SPREAD = [*TINY, "--steps", "6", "--checkpoint-every", "2", "--mesh", "data=2,model=2", "--accumulate", "2"]


@pytest.fixture(scope="module")
def main():
    return program().main


@pytest.fixture
def refused(main, capsys):
    """Runs the program and returns the one line with which it refuses."""

    def run(*argv):
        assert main([str(word) for word in argv]) == 2
        _, err = capsys.readouterr()
        assert err.count("\n") == 1, err
        assert err.startswith("train_distributed.py: ")
        return err

    return run


@pytest.fixture(scope="module")
def whole(main, tmp_path_factory):
    """A run over four devices, and its program in a file."""
    folder = tmp_path_factory.mktemp("whole")
    with jax.numpy_dtype_promotion("standard"), no_annotation_checks():  # they do not know symbolic sizes
        assert main([*SPREAD, "--out", str(folder / "out"), "--export", str(folder / "programs.zip")]) == 0
    return folder


@pytest.mark.long
def test_a_run_that_goes_on_has_the_same_bits(main, whole, tmp_path, capsys):
    """From a checkpoint in the midst of a passage; lines of metrics that lie beyond it are written anew."""
    shutil.copytree(whole / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out/checkpoints/6")
    (tmp_path / "out/checkpoints/5.orbax-checkpoint-tmp").mkdir()
    with (tmp_path / "out/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "bi')
    assert main(["--resume", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "goes on after step 4" in said
    assert "mesh: data=2,model=2" in said
    assert losses(tmp_path / "out") == losses(whole / "out")
    assert (tmp_path / "out/sample.txt").read_text() == (whole / "out/sample.txt").read_text()
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").iterdir()) == ["4", "6"]


@pytest.mark.long
def test_a_run_that_stops_says_that_it_exports_nothing_yet(main, tmp_path, capsys):
    file = tmp_path / "programs.zip"
    assert main([*SPREAD, "--stop-at", "2", "--out", str(tmp_path / "out"), "--export", str(file)]) == 0
    said = capsys.readouterr().out
    assert "stopped after step 2" in said
    assert f"{file} is not written yet" in said
    assert not file.exists()


@pytest.mark.long
def test_the_same_command_does_not_go_beyond_the_step_to_stop_at(main, whole, tmp_path, capsys):
    """At that step and after it nothing is trained; a run that has all its steps is sampled, as without it."""
    shutil.copytree(whole / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out/checkpoints/6")
    words = ["--resume", "--out", str(tmp_path / "out"), "--stop-at"]
    for step in ("4", "3"):
        assert main([*words, step]) == 0
        assert f"nothing to do: step 4 is made, and --stop-at says {step}" in capsys.readouterr().out
        assert [path.name for path in (tmp_path / "out/checkpoints").iterdir()] == ["4"]
    assert main([*words, "6"]) == 0
    assert main([*words, "4"]) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert losses(tmp_path / "out") == losses(whole / "out")


@pytest.mark.parametrize(("place", "says"), [("file/programs.zip", ""), (".", "Is a directory")])
def test_a_place_that_takes_no_export_is_refused_before_training(refused, tmp_path, place, says):
    (tmp_path / "file").touch()
    message = refused("--smoke", "--out", tmp_path / "out", "--export", tmp_path / place)
    assert f"--export {tmp_path / place}: cannot be written ({says}" in message
    assert not (tmp_path / "out/config.json").exists()


@pytest.mark.long
def test_an_export_is_written_whole_or_not_at_all(refused, whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "out", tmp_path / "out")
    file = tmp_path / "new/programs.zip"
    file.parent.mkdir()
    file.write_text("the one before")
    write = zipfile.ZipFile.writestr

    def full(archive, name, data):
        if name == "weights.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(archive, name, data)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with no_annotation_checks():  # they do not know symbolic sizes
        message = refused("--resume", "--out", tmp_path / "out", "--export", file)
    assert f"--export {file}: cannot be written (No space left on device)" in message
    assert [path.name for path in file.parent.iterdir()] == ["programs.zip"]
    assert file.read_text() == "the one before"


@pytest.mark.long
def test_programs_leave_the_process(whole):
    """One file for three kinds of devices: training goes on from where it was, inference takes any batch and time."""
    from train_distributed_support import programs

    found = programs.read(whole / "programs.zip")
    for exported in (found.train_step, found.inference):
        assert exported.platforms == ("cpu", "tpu", "cuda")
    ids = np.random.default_rng(0).integers(0, len(found.symbols), (8, 5)).astype(np.int32)
    state, first, _ = found.train_step.call(found.state, jnp.asarray(ids))
    _, second, _ = found.train_step.call(state, jnp.asarray(ids))
    assert float(second) < float(first)
    ids = ids.T[:, :3]
    zeros = [jnp.broadcast_to(leaf, (3, *leaf.shape)) for leaf in found.carry]
    logits, _ = found.inference.call(found.weights, zeros, ids)
    assert logits.shape == (5, 3, len(found.symbols))
    begun, carry = found.inference.call(found.weights, zeros, ids[:2])
    rest, _ = found.inference.call(found.weights, carry, ids[2:])
    np.testing.assert_allclose(np.concatenate([begun, rest]), logits, atol=1e-6)


@pytest.mark.long
def test_a_checkpoint_that_is_damaged_is_named(refused, whole, tmp_path):
    shutil.copytree(whole / "out", tmp_path / "out")
    for file in (tmp_path / "out/checkpoints/6/state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    message = refused("--resume", "--out", tmp_path / "out")
    assert str(tmp_path / "out/checkpoints/6") in message
    assert "Delete that folder" in message


@pytest.mark.long
def test_another_run_is_not_written_over(refused, whole):
    message = refused(*SPREAD, "--hidden", 8, "--out", whole / "out")
    assert "(--hidden was 4, is 8)" in message
    assert "--resume" in message


@pytest.mark.long
def test_another_number_of_steps_is_another_run(refused, whole):
    message = refused("--resume", "--steps", 8, "--out", whole / "out")
    assert "(--steps (over which the learning rate falls) was 6, is 8)" in message


@pytest.mark.long
def test_a_run_that_goes_on_has_its_sizes(refused, whole):
    assert "--resume: --smoke would do nothing beside it" in refused("--resume", "--smoke", "--out", whole / "out")


@pytest.mark.long
def test_what_a_run_reports_may_change(main, whole, tmp_path):
    """Before its last step and after it; the numbers of the training stay, and later calls know the new options."""
    out = tmp_path / "out"
    shutil.copytree(whole / "out", out)
    shutil.rmtree(out / "checkpoints/6")
    assert main(["--resume", "--out", str(out), "--eval-every", "5", "--checkpoint-every", "5", "--sample", "3"]) == 0
    assert [line["step"] for line in lines(out) if "valid_bits" in line] == [4, 5, 6]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["5", "6"]
    assert losses(out)[::2] == losses(whole / "out")[::2]
    text = (out / "sample.txt").read_text()
    assert len(text) == 4
    assert main(["--resume", "--out", str(out), "--temperature", "0.01"]) == 0
    assert len((out / "sample.txt").read_text()) == 4
    assert (out / "sample.txt").read_text() != text
    assert json.loads((out / "config.json").read_text())["eval_every"] == 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cell", "ln_lsmt"], "no preset is called ln_lsmt"),
        (["--hidden", "0"], "above zero"),
        (["--decay", "-1"], "zero or more"),
        (["--batch", "9", "--accumulate", "2"], "no multiple of --accumulate 2"),
        (["--coordinator", "here:1"], "needs --processes"),
        (["--processes", "2"], "belong to --coordinator"),
        (["--coordinator", "here", "--processes", "2", "--process", "0"], "HOST:PORT"),
        (["--coordinator", "here:1", "--processes", "2", "--process", "2"], "numbered from 0 to 1"),
        (["--smoke", "--mesh", "data=3"], "takes 3 devices, there are 4"),
        (["--smoke", "--mesh", "rows=4"], "is no axis with a size"),
        (["--smoke", "--mesh", "data=0,model=4"], "is no axis with a size"),
        (["--smoke", "--batch", "6"], "spread evenly over data=4"),
        (["--smoke", "--batch", "8", "--accumulate", "4"], "a multiple of 16"),
        (["--smoke", "--mesh", "data=7,data=1"], "--mesh data=7,data=1: data is given twice"),
        (["--smoke", "--hidden", "6", "--mesh", "model=4"], "--hidden 6: cannot be spread evenly over model=4"),
        (["--smoke", "--features", "6", "--mesh", "model=4"], "--features 6: cannot be spread evenly over model=4"),
        (["--smoke", "--limit", "10"], "too short"),
        (["--data", "nowhere"], "no such file"),
        (["--resume"], "there is no run in"),
        (["--smoke", "--out", "gs://bucket/run"], "--out: must be a path, got the address gs://bucket/run: mount it"),
        (["--resume", "--out", "gs://bucket/run"], "--out: must be a path"),
        (["--smoke", "--export", "s3://bucket/lm.zip"], "--export: must be a path"),
        (["--smoke", "--data", "https://host/text"], "--data: must be a path"),
        (["--compile-for", "v5e:2x2"], "--compile-for v5e:2x2"),
        (["--compile-for", "v5e:2x2", "--export", "lm.zip"], "--compile-for: --export would do nothing beside it"),
        (["--compile-for", "v5e:2x2", "--cluster", "--cpu-devices", "2"], "--cpu-devices, --cluster would do nothing"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_answered_in_one_line(refused, tmp_path, monkeypatch, words, says):
    monkeypatch.setitem(__import__("sys").modules, "libtpu", None)
    assert says in refused("--out", tmp_path / "out", *words)
    assert not (tmp_path / "out/config.json").exists()


def test_the_text_of_a_row_does_not_depend_on_who_reads_it(main):
    """Against the order in words: passages drawn without repetition, each read in windows, the same for any share."""
    from train_distributed_support.batches import training_batches

    ids, batch, window, passage = np.arange(100, dtype=np.int32), 4, 3, 2
    sizes = {"batch": batch, "window": window, "passage": passage, "seed": 5}

    def read(rows, steps, skip=0):
        iterator = training_batches(ids, rows, **sizes)
        if skip:
            iterator.set_state(json.loads(json.dumps({"next_index": skip})))
        return [next(iterator) for _ in range(steps)]

    whole = np.stack(read(range(4), 8))
    assert whole.shape == (8, 4, 4)
    for first, second in zip(whole[::2], whole[1::2], strict=True):  # the second window goes on from the first
        np.testing.assert_array_equal(first[:, -1], second[:, 0])
        assert all(np.all(np.diff(row) == 1) and row[0] % 6 == 0 for row in first)
    starts = whole[::2, :, 0].ravel()
    assert len(set(starts.tolist())) == 16  # one epoch: no passage comes twice
    assert list(starts) != sorted(starts)
    np.testing.assert_array_equal(np.concatenate([read([0, 1], 8), read([2, 3], 8)], axis=1), whole)
    np.testing.assert_array_equal(read([1, 3], 3, skip=5), whole[5:, [1, 3]])
    seventeenth = np.stack(read(range(4), 10))[8, :, 0]
    assert set(seventeenth.tolist()) <= set(range(0, 96, 6))  # the next epoch, in another order
    assert list(seventeenth) != list(starts[:4])


def test_held_out_text_is_read_once_and_in_order(main):
    from train_distributed_support.batches import streams

    ids = np.arange(24, dtype=np.int32)
    inputs, targets = streams(ids, window=4, batch=3)
    assert inputs.shape == targets.shape == (2, 3, 4)
    pairs = [(a, b) for a, b in zip(inputs.ravel(), targets.ravel(), strict=True) if b >= 0]
    assert sorted(pairs) == [(k, k + 1) for k in range(23)]
    np.testing.assert_array_equal(inputs[:, 1].ravel(), range(8, 16))


def test_words_and_rare_symbols(main, tmp_path):
    from train_distributed_support import corpus

    (tmp_path / "text.txt").write_text("the cat saw the dog\nthe dog ran\n" * 5)
    found = corpus.load(str(tmp_path / "text.txt"), "word", 0.1, None, 3)
    assert found.symbols[:3] == ["<eos>", "dog", "the"]
    assert found.decode(found.train[:6]) == f"the {found.symbols[3]} {found.symbols[3]} the dog \n"
    assert found.first == 0
    characters = corpus.load(str(tmp_path / "text.txt"), "character", 0.1, None, None)
    assert characters.decode(characters.train[:7]) == "the cat"


def test_collectives_are_counted_with_the_trips_of_their_loops(main):
    from train_distributed_support.traffic import collectives

    text = """HloModule m

%body.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %g = f32[16]{0} all-gather(%x), replica_groups={{0,1}}
  %r = (f32[8]{0}, bf16[4]{0}) all-reduce-start(%x, %y), to_apply=%sum
}

%inner (p: (s32[])) -> (s32[]) {
  %w = (s32[], f32[8]) while(%t), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (s32[]) while(%t), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %s = f32[2,3]{1,0} all-reduce(%a), to_apply=%sum
  %d = f32[2,3]{1,0} all-reduce-done(%s)
}
"""
    assert collectives(text) == {
        ("all-gather", "in a loop"): (15, 15 * 64),
        ("all-reduce", "in a loop"): (15, 15 * 40),
        ("all-reduce", "outside of loops"): (1, 24),
    }


def test_parts_of_a_batch_keep_the_rows_of_a_device(main):
    """Each part holds rows of all devices, so that no row moves; rows come back to their places."""
    from train_distributed_support.model import LanguageModel

    model = LanguageModel(*[None] * 6, 3, *[None] * 7)
    rows = jnp.arange(12).reshape(12, 1)
    parts = model._in_parts(rows)
    assert parts[:, :, 0].tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    np.testing.assert_array_equal(model._as_rows(parts), rows)


@pytest.mark.long
def test_a_plan_is_one_of_the_run_in_the_folder(main, whole, monkeypatch, capsys):
    """With its sizes and its mesh, for as many devices as there are."""
    from train_distributed_support import plan

    monkeypatch.setattr(plan, "_devices", lambda _: jax.devices())
    assert main(["--compile-for", "v5e:2x2", "--resume", "--out", str(whole / "out")]) == 0
    said = capsys.readouterr().out
    assert "v5e:2x2: 4 devices, data=2,model=2" in said
    assert "all-reduce, in a loop" in said


@pytest.mark.long
def test_a_validation_makes_a_line(main, tmp_path):
    """Whatever the steps between two lines; the loss in a line is the mean since the one before."""
    each, some = tmp_path / "each", tmp_path / "some"
    words = [*TINY, "--steps", "8", "--eval-every", "3"]
    assert main([*words, "--out", str(each)]) == 0
    assert main([*words, "--log-every", "4", "--out", str(some)]) == 0
    found = lines(some)
    assert [line["step"] for line in found] == [3, 4, 6, 8]
    assert [line["step"] for line in found if "valid_bits" in line] == [3, 6, 8]
    bits = losses(each)[0]
    expected = [np.mean(part) for part in (bits[:3], bits[3:4], bits[4:6], bits[6:])]
    np.testing.assert_allclose([line["bits"] for line in found], expected, rtol=1e-6)


@pytest.mark.long
def test_lines_of_metrics_say_how_it_goes(whole):
    found = lines(whole / "out")
    assert all({"step", "bits", "gradient_norm", "learning_rate", "seconds"} <= line.keys() for line in found)
    assert [line["step"] for line in found if "valid_bits" in line] == [4, 6]
