"""The benchmarks: peers compute the same function as we do, and what is written is whole."""

import dataclasses
import json
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import compare, compete, measure, plots, run
from benchmarks.machine import describe
from benchmarks.plan import CELLS, NORMS, Choice, plan
from benchmarks.programs import build, offers, why_missing
from benchmarks.report import report
from benchmarks.results import Folder, Row, read, to_csv
from benchmarks.shapes import NORM_SHAPES, Shape
from benchmarks.summary import summary

PEERS = ("linen", "nnx", "haiku", "equinox", "keras", "torch")
NORMALIZED = [model for model in CELLS if "_" in model]


@pytest.fixture(autouse=True)
def lenient():
    """The defaults of JAX, and no word about warnings, around the code of others."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- the same functions


def parts(params, model):
    """Our weights, or their gradients, by the names that all programs give to their parts."""
    if model in NORMS:
        return {"": affine(params)}
    names = ("kernel", "recurrent", "bias") + (("recurrent_bias",) if model == "ln_gru" else ())
    found = {name: np.asarray(getattr(params, name)) for name in names}
    found |= {name: found[name].reshape(len(found[name]), -1) for name in ("kernel", "recurrent")}
    for site, weights in params.norm._asdict().items():
        if weights == ():
            continue
        leaves = affine(weights)
        if model == "ln_gru":
            two = 2 * params.recurrent.shape[0]
            found[f"norm_{site}_gates"] = {name: leaf[:two] for name, leaf in leaves.items()}
            found[f"norm_{site}_candidate"] = {name: leaf[two:] for name, leaf in leaves.items()}
        else:
            found[f"norm_{site}"] = leaves
    return found


def affine(weights):
    return {name: np.asarray(leaf) for name, leaf in weights._asdict().items() if leaf is not None}


def ours_at(path, leaf, found):
    """What of ours stands at a path of a peer's weights, laid out like theirs; None where we have nothing."""
    words = re.findall(r"\w+", jax.tree_util.keystr(path))
    value = next(found[word] for word in [*words, ""] if word in found)
    if isinstance(value, dict):
        value = value.get("scale" if {"scale", "weight", "gamma"} & set(words) else "bias")
    if value is None or value.shape == leaf.shape:
        return value
    return value.T if value.ndim == leaf.ndim else value.reshape(leaf.shape)


def fill(program, found):
    """A peer's program with our weights, and zeros where we have none."""

    def choose(path, leaf):
        value = ours_at(path, leaf, found)
        return np.zeros(leaf.shape, np.float32) if value is None else value

    chosen = jax.tree_util.tree_map_with_path(choose, program.params)
    if hasattr(program, "module"):  # torch's weights are filled in place
        for name, tensor in program.params.items():
            tensor.data.copy_(tensor.new_tensor(np.array(chosen[name])))
        return program
    return dataclasses.replace(program, params=jax.tree.map(jnp.asarray, chosen))


class Results(NamedTuple):
    """What a program computes, in our layout."""

    outputs: np.ndarray | None
    """Not for normalizers: the value of the objective says enough."""
    value: np.ndarray
    gradients: Any
    to_xs: np.ndarray


def results(program, forward):
    axes = np.argsort(program.order)
    outputs = np.asarray(program.prepare("forward").run()[0]).transpose(axes) if forward else None
    (value, _), (gradients, to_xs) = program.prepare("gradient").run()
    return Results(outputs, np.asarray(value), gradients, np.asarray(to_xs).transpose(axes))


@cache
def ours(model):
    """Our weights, random numbers in every one of them, and what comes of them."""
    program = build("ours", model, shape_for(model), "float32")
    rng = np.random.default_rng(7)
    draw = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.3, 0.5, leaf.shape), leaf.dtype), program.params)
    return draw, results(dataclasses.replace(program, params=draw), model in CELLS)


def shape_for(model):
    """Small; over a batch of two the statistics of a BN-LSTM would amplify rounding."""
    return NORM_SHAPES["tiny"] if model in NORMS else Shape(6, 5, 3, 4)


def check_same(library, model, spoil=lambda found: None):
    """Outputs, and gradients of the weights and of the inputs."""
    params, expected = ours(model)
    found = parts(params, model)
    spoil(found)
    got = results(fill(build(library, model, shape_for(model), "float32"), found), model in CELLS)
    for name in ("outputs", "value", "to_xs") if model in CELLS else ("value", "to_xs"):
        agree(getattr(got, name), getattr(expected, name), name)
    found = parts(expected.gradients, model)
    for path, leaf in jax.tree_util.tree_leaves_with_path(got.gradients):
        own = ours_at(path, leaf, found)
        if own is not None:
            agree(np.asarray(leaf), own, f"gradient of {jax.tree_util.keystr(path)}")


def agree(got, expected, what):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-4, err_msg=what)


def need(library, model):
    if reason := why_missing(library):
        pytest.skip(f"pip install jaxnorm[bench]: {reason}")
    if not offers(library, model):
        pytest.skip(f"{library} has no {model} of its own parts")


@pytest.mark.long
@pytest.mark.parametrize("library", PEERS)
@pytest.mark.parametrize("model", [*NORMALIZED, *NORMS])
def test_a_peer_computes_the_same(library, model):
    need(library, model)
    check_same(library, model)


@pytest.mark.long
def test_a_difference_is_noticed():
    def spoil(found):
        found["norm_cell"]["bias"] = found["norm_cell"]["bias"] + 0.01

    with pytest.raises(AssertionError, match="Mismatched"):
        check_same("linen", "ln_lstm", spoil)


# ---- measuring


def test_rounds_are_interleaved():
    ran = []
    times = measure.interleaved({name: lambda name=name: ran.append(name) for name in "abc"}, 4, 0.0)
    assert "".join(ran) == "abc" + "acb" + "cab" + "cba", "everyone follows everyone else"
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abc", 4)


def test_rounds_go_on_until_the_time_is_up():
    assert len(measure.interleaved({"a": lambda: None}, 1, 0.2)["a"]) > 1


def test_peak_memory_is_that_of_the_run():
    size = 64 * 2**20
    peak = measure.peak_bytes(lambda: np.ones(size, np.uint8).sum())
    if peak is None:
        pytest.skip("the peak of resident memory is not known here")
    assert 0.9 * size < peak < 1.5 * size


# ---- the runner


def run_tiny(out, *groups, models=CELLS):
    words = ["--shapes", "tiny", "--rounds", "2", "--libraries", "ours", "linen", "--directions", "gradient"]
    return run.main([*groups, *words, "--dtypes", "float32", "--models", *models, "--out", str(out)])


@pytest.mark.long
def test_a_run_writes_whole_files(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert run_tiny(out, "cells", "norms", models=["ln_lstm", "layer_norm"]) == 0
    assert {path.name for path in out.iterdir()} == {"cells.png", "machine.json", "results.csv", "results.md"}
    rows = read(out)
    assert {row.key[:4] for row in rows} == {
        (group, "tiny", model, library)
        for group, model in (("cells", "ln_lstm"), ("norms", "layer_norm"))
        for library in ("ours", "linen")
    }
    for row in rows:
        assert 0 < row.min_ms <= row.median_ms
        assert row.rounds == 2
        assert row.xla_temp_bytes > 0
        assert row.compile_s > 0
        assert row.ratio_to_best_peer == pytest.approx(1) or row.library == "ours"
    assert to_csv(rows) == (out / "results.csv").read_text(encoding="utf-8")
    text = (out / "results.md").read_text(encoding="utf-8")
    assert "| `ln_lstm` gradient / `ln_lstm` in linen | 0.5 |" in text
    machine = json.loads((out / "machine.json").read_text(encoding="utf-8"))
    assert machine["versions"]["jax"] == jax.__version__
    assert machine["left_out"] == []
    assert run_tiny(out) == 2
    assert "there are results already" in capsys.readouterr().err


def a_row(library="ours", median=2.0, **changes):
    row = Row("cells", "tiny", "ln_lstm", library, "float32", "gradient", 1.0, median, 5, 600, None, 0.5, None)
    return row._replace(**changes)


def outcomes(*found):
    """Stands in for ``compete``: one outcome after the other; exceptions are raised."""
    left = list(found)

    def stand_in(comparison, rounds, seconds):
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return stand_in


def test_a_killed_run_leaves_what_was_finished(tmp_path, monkeypatch):
    rows = [a_row(), a_row("linen")]
    finished = compete.Outcome(None, rows=rows)
    monkeypatch.setattr(run, "compete", outcomes(finished, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path)
    assert read(tmp_path) == rows
    assert "ln_lstm" in (tmp_path / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("library", "code"), [("ours", 1), ("linen", 0)])
def test_what_fails_is_said_and_the_rest_goes_on(tmp_path, monkeypatch, capsys, library, code):
    def fail(name, *_):
        raise ValueError("broken\nand more" if name == library else "the other one")

    monkeypatch.setattr(compete, "build", fail)
    monkeypatch.setattr(compete, "offers", lambda name, model: name == library)
    monkeypatch.setattr(compete, "interleaved", lambda programs, rounds, seconds: {})
    assert run_tiny(tmp_path, models=["layer_norm"]) == code
    assert f"left out: {library} layer_norm, tiny, float32, gradient: ValueError: broken\n" in capsys.readouterr().err
    assert "ValueError: broken" in (tmp_path / "results.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cell"], "groups: nothing is called cell. Choose from cells, norms, growth, costs, presets, imports."),
        (["--shapes", "4x4"], "--shapes: nothing is called 4x4."),
        (["--models", "lstm", "ltsm"], "--models: nothing is called ltsm."),
        (["--libraries", "tensorflow"], "--libraries: nothing is called tensorflow."),
        (["--dtypes", "int8"], "--dtypes: nothing is called int8."),
        (["--directions", "up"], "--directions: nothing is called up."),
        (["--rounds", "0"], "argument --rounds: must be a number above zero, got '0'."),
        (["--round-about", "0"], "unrecognized arguments: --round-about"),
        (["norms", "--models", "lstm"], "nothing is measured"),
        (["--out", "FILE/below"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, words, said):
    (tmp_path / "FILE").touch()
    assert run.main([word.replace("FILE", str(tmp_path / "FILE")) for word in words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1 or said == "cannot be written"


def test_by_default_the_small_shapes_are_left_alone():
    comparisons = plan(Choice())
    assert "tiny" not in {c.shape_name for c in comparisons}
    assert {c.group for c in comparisons} == {"cells", "norms", "growth", "costs", "presets", "imports"}
    assert {c.dtype for c in comparisons if c.group == "cells"} == {"float32", "bfloat16"}


# ---- what is made of the results


def test_summary_divides_ours_by_the_fastest_of_the_others():
    rows = [
        a_row(median=2.0),
        a_row("ours-plain", median=0.1),  # a variation is not what is judged
        a_row("linen", median=5.0, min_ms=4.0, xla_temp_bytes=3000),
        a_row("torch", median=1.0, model="lstm"),
        a_row("haiku", median=4.0, model="lstm"),
        a_row("keras", median=1.6, model="lstm"),
    ]
    text = "\n".join(summary(rows))
    assert "| `ln_lstm` gradient / `ln_lstm` in linen | 0.5 | 0.40 (0.25) yes |" in text
    assert "| `ln_lstm` gradient / fastest plain `lstm` in JAX | 1 | 1.25 (1.00) no |" in text
    assert "| `ln_lstm` gradient / plain `lstm` of torch | 1 | 2.00 (1.00) no |" in text
    assert "| `ln_lstm` gradient, temporary memory / linen's | 0.17 | 0.20 no |" in text
    assert "forward" not in text


def grown(steps, median, temp, library="ours"):
    shape = f"growing-steps:4x{steps}x8x8"
    return a_row(library, median, group="growth", shape=shape, xla_temp_bytes=temp)


def test_growth_is_judged_and_drawn():
    rows = [grown(128, 128.0, 10), grown(8192, 9000.0, 100), grown(8192, 1.0, 50, "ours-lean")]
    rows.append(grown(8192, 1.0, 5000, "linen"))
    text = "\n".join(summary(rows))
    assert "largest / smallest: 1.10, target 1.1: yes" in text
    assert "1/100 of linen's with `ours-lean`, target 1/50: yes" in text
    lines = report(rows, describe(), []).splitlines()
    assert "| 4x128x8x8 | 1000 | - | - |" in lines, "microseconds per step"
    assert plots.png(plots.growth(rows)).startswith(b"\x89PNG")
    assert plots.cells(rows) is None


def test_imports_are_measured_and_judged(tmp_path):
    out = tmp_path / "out"
    assert run.main(["imports", "--libraries", "ours", "--rounds", "1", "--out", str(out)]) == 0
    (row,) = read(out)
    assert (row.library, row.rounds) == ("ours", 1)
    assert row.min_ms > 1.0, "an import takes longer"
    judged = [a_row(group="imports", median=310.0), a_row("haiku", 500.0, group="imports")]
    assert "target 0.3 s: no; haiku 0.50 s (" in "\n".join(summary(judged))


def a_folder(path, rows):
    folder = Folder(path, {})
    folder.add(rows, [])
    return str(path)


def test_compare_prints_ratios_and_what_is_missing(tmp_path, capsys):
    old = a_folder(tmp_path / "old", [a_row(), a_row("linen")])
    new = a_folder(tmp_path / "new", [a_row(median=3.0), a_row("nnx")])
    assert compare.main([old, new]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"ours +float32 +gradient +2 +3 +1\.500 +1\.000", printed)
    assert "only in OLD: cells tiny ln_lstm linen float32 gradient" in printed
    assert "only in NEW: cells tiny ln_lstm nnx float32 gradient" in printed


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "\0", "group,shape\ncells\n"])
def test_compare_wants_results(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "results.csv").write_text(content, encoding="utf-8")
    assert compare.main([str(tmp_path), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_files_are_short():
    sources = (Path(__file__).parents[2] / "benchmarks").rglob("*.py")
    assert [path.name for path in sources if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []
