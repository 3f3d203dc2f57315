"""Digits of values and gradients on data that cost digits; errors in units in the last place of the row."""

import numpy as np
import pytest

from benchmarks.accuracy import oracle
from benchmarks.accuracy.inputs import KINDS, Kind, rows_of
from benchmarks.accuracy.layouts import LAYOUTS
from benchmarks.accuracy.measure import MASKS, Setting, case_of, measure

BOTH_SIGNS = "large features of both signs"
"""There the sum itself, in float32, has no more digits: every library errs by a hundred and more."""


def names(case):
    return f"{case.name}, epsilon {case.epsilon:g}" if isinstance(case, Kind) else case


def errors(norm, kind, mask, size, level=None, dtype="float32"):
    layout = LAYOUTS[norm]
    return measure("ours", layout, case_of(kind, layout.center, mask, size, dtype), Setting(mask, level))


@pytest.mark.parametrize("kind", KINDS, ids=names)
@pytest.mark.parametrize("norm", LAYOUTS)
def test_values_and_gradients_keep_their_digits(norm, kind):
    for mask in MASKS:
        got = errors(norm, kind, mask, 650)
        assert got.gradients <= 5, (mask, got)
        assert got.values <= (400 if kind.name == BOTH_SIGNS else 4.5), (mask, got)


@pytest.mark.parametrize("level", [None, 0])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.outliers is None], ids=names)
def test_neither_few_elements_nor_an_idle_compiler_cost_digits(kind, level):
    for norm in ("layer_norm", "batch_norm"):
        for mask in ("none", "half"):
            got = errors(norm, kind, mask, 97, level)
            assert max(got) <= 4, (norm, mask, got)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.only_float32], ids=names)
def test_bfloat16_is_rounded_once(kind):
    for norm in ("layer_norm", "batch_norm"):
        got = errors(norm, kind, "none", 650, dtype="bfloat16")
        assert max(got) <= 0.51, (norm, got)


def test_errors_are_seen():
    """One unit in the last place of a result is one; a wrong epsilon is many."""
    kind = KINDS[0]
    x, cotangent = rows_of(kind, 3, 50, "float32")
    y, _ = oracle.normalized(x, cotangent, kind.epsilon)
    largest = np.abs(y).max(axis=1, keepdims=True)
    off = np.where(np.abs(y) == largest, y + np.spacing(largest.astype(np.float32)), y)
    assert oracle.ulps(off, y, kind, x, None) == pytest.approx(1)
    assert oracle.ulps(oracle.normalized(x, cotangent, 1e-3)[0], y, kind, x, None) > 1000
    zeros = np.zeros_like(y)
    assert oracle.ulps(zeros, zeros, kind, x, None) == 0
    assert np.isinf(oracle.ulps(zeros + 1e-30, zeros, kind, x, None))
