"""The picture of the relatives, and the rows of their curves."""

import numpy as np
import pytest

from experiments.claims.relatives import ARMS, CLAIM, pictures
from experiments.harness.records import Run


def run_of(arm, seed, bits):
    return Run(claim="relatives", arm=arm, scale="small", phase="final", rate=0.01, seed=seed, steps=2,
               curve={"step": [0, 2], "seconds": [0.0, 1.0]}, test={"test_bits": bits})  # fmt: skip


def test_each_cell_stands_beside_itself_with_layer_norm():
    marks = {"GRU": [2.0, 2.2], "LN-GRU": [1.8, 1.9], "MUT3": [1.7], "LN-MUT3": [1.6]}
    runs = [run_of(arm, seed, value) for arm, bits in marks.items() for seed, value in enumerate(bits)]
    (panel,) = pictures(runs, {})["cells.png"].axes
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert len(names) == 11
    assert not any(name.startswith("LN") for name in names)
    for row, name in enumerate(names):
        plain, normalized = (points.get_offsets().data for points in panel.collections[2 * row : 2 * row + 2])
        np.testing.assert_array_equal(plain, [[bits, row] for bits in marks.get(name, [])] or np.zeros((0, 2)))
        np.testing.assert_array_equal(normalized, [[b, row] for b in marks.get(f"LN-{name}", [])] or np.zeros((0, 2)))
    line = panel.lines[names.index("GRU")]
    assert line.get_xdata() == pytest.approx([2.1, 1.85])


def test_the_rows_of_the_curves_show_every_arm():
    assert {arm for arms in CLAIM.axes.values() for arm in arms} == set(ARMS)
