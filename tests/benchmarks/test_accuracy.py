"""The program behind ``make accuracy``: its options, its table, and that it sees an error."""

import numpy as np
import pytest

for library in ("rich", "flax"):
    pytest.importorskip(library, reason=f"the accuracy program needs {library}")

from benchmarks.accuracy import __main__ as program
from benchmarks.accuracy import libraries, oracle
from benchmarks.accuracy.inputs import KINDS
from benchmarks.accuracy.layouts import LAYOUTS, members_of
from benchmarks.accuracy.measure import Errors, Setting, case_of, measure
from benchmarks.accuracy.table import Row, misses, table

NORMAL = KINDS[0]


@pytest.fixture
def small(monkeypatch):
    """One kind of data, no mask, one other library, one level."""
    monkeypatch.setattr(program, "KINDS", (NORMAL,))
    monkeypatch.setattr(program, "MASKS", ("none",))
    monkeypatch.setattr(program, "LEVELS", (None,))
    monkeypatch.setattr(program, "PEERS", {"jax.nn.standardize": libraries.standardize})


def test_options_choose_normalizers_sizes_and_the_file(small, monkeypatch, tmp_path, capsys):
    sizes = []
    monkeypatch.setattr(program, "case_of", lambda *case: sizes.append(case[3]) or case_of(*case))
    out = tmp_path / "new" / "table.md"
    assert program.main(["--norms", "layer_norm", "--sizes", "7", "9", "--out", str(out)]) == 0
    assert set(sizes) == {7, 9}
    text = out.read_text(encoding="utf-8")
    assert "| `layer_norm` | normal | 1e-05 |" in text
    assert "rms_norm" not in text
    assert "4 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--norms", "no_norm"], "no_norm"), (["--sizes", "2"], "--sizes: a row has at least three elements")],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert program.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_rows_come_back_as_they_were_laid(layout):
    rows = np.arange(12.0 * 10).reshape(12, 10)
    np.testing.assert_array_equal(layout.rows(layout.lay(rows), 12), rows)
    np.testing.assert_array_equal(layout.joined(layout.parts(rows, members_of(10)), 12), rows)


def test_an_error_is_seen(monkeypatch):
    case = case_of(NORMAL, True, "none", 9, "float32")
    wrong = case._replace(wanted=(case.wanted[0] * (1 + 1e-5), case.wanted[1]))
    right, off = (measure("ours", LAYOUTS["layer_norm"], c, Setting("none", None)) for c in (case, wrong))
    assert right.values < 4 < 50 < off.values
    assert right.gradients == off.gradients < 5


def test_constant_rows_are_zero_and_anything_else_is_infinitely_wrong():
    x = np.full((1, 4), 0.1, np.float32)
    y, _ = oracle.normalized(x, np.ones_like(x), 0.0)
    assert oracle.ulps(np.zeros((1, 4), np.float32), y, NORMAL, x, None) == 0
    assert oracle.ulps(np.full((1, 4), 1e-9, np.float32), y, NORMAL, x, None) == np.inf


def test_libraries_without_masks_are_left_out_under_one():
    case = case_of(NORMAL, True, "half", 9, "float32")
    assert all(
        measure(name, LAYOUTS["layer_norm"], case, Setting("half", None)) is None for name in ("Keras", "PyTorch")
    )


def test_the_table_shows_the_best_other_and_lists_what_is_above_the_aim():
    rows = [
        Row("float32", "layer_norm", NORMAL, "none", name, Errors(*errors))
        for name, errors in {"ours": (4.5, 1.0), "a": (2.0, 7.0), "b": (3.0, 6.0)}.items()
    ]
    assert "| 4.5 / 1.0 | 2.0 / 6.0 |" in table(rows, "float32")
    line = "layer_norm, normal, epsilon 1e-05, no mask: values err by {}; the most exact other library by 2.0"
    assert misses(rows) == [line.format(4.5)]
    rows[0] = rows[0]._replace(errors=Errors(3.9, 1.0))
    assert misses(rows) == []
    rows[1] = rows[1]._replace(errors=Errors(1.9, 7.0))
    assert misses(rows) == [line.format(3.9).replace("2.0", "1.9")]  # more than twice as much
