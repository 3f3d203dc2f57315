"""A figure that depends on the baseline's runs of the same seed."""

import dataclasses

import numpy as np
import pytest

from experiments.claims.order_embeddings import CLAIM
from experiments.harness import measures
from experiments.harness.records import Records, Run
from experiments.harness.summary import summarize

STEPS = [0, 100, 200, 300, 400]


def run(arm, seed, values, **fields):
    curve = {"step": STEPS[: len(values)], "seconds": STEPS[: len(values)], "valid_rank": values}
    made = {"claim": CLAIM.name, "scale": "small", "phase": "final", "rate": 0.1, "steps": 400, **fields}
    return Run(arm=arm, seed=seed, curve=curve, **made)


def test_the_target_is_the_best_of_the_baseline():
    measure = measures.log2_steps_to_best("valid_rank", 500.0)
    baseline = [run("GRU, order", 0, [500.0, 90.0, 50.0, 40.0, 60.0])]
    assert measure(baseline, baseline) == pytest.approx(np.log2(300))
    assert measure([run("LN-GRU, order", 0, [500.0, 60.0, 20.0, 20.0, 20.0])], baseline) == pytest.approx(np.log2(150))
    assert measure([run("LN-GRU, order", 0, [500.0, 60.0, 50.0, 50.0, 41.0])], baseline) == pytest.approx(np.log2(800))
    gone = [run("LN-GRU, order", 0, [500.0, 60.0, 50.0], diverged=250)]
    assert measure(gone, baseline) == pytest.approx(np.log2(800))


def test_the_summary_pairs_each_seed_with_its_own_baseline(tmp_path):
    claim = dataclasses.replace(CLAIM, also={})
    arms = {"GRU, order": ([500.0, 90.0, 50.0, 40.0, 60.0], [500.0, 80.0, 30.0, 30.0, 30.0]),
            "LN-GRU, order": ([500.0, 60.0, 20.0, 20.0, 20.0], [500.0, 30.0, 20.0, 20.0, 20.0],
                              [500.0, 30.0, 20.0, 20.0, 20.0])}  # fmt: skip
    records = Records(tmp_path, claim.name)
    for arm, curves in arms.items():
        for seed, values in enumerate(curves):
            records.add(run(arm, seed, values))
    found = summarize(claim, tmp_path)
    figures = {arm.arm: arm.figures for arm in found.arms}
    assert figures["GRU, order"] == pytest.approx({0: np.log2(300), 1: np.log2(200)})
    assert figures["LN-GRU, order"] == pytest.approx({0: np.log2(150), 1: np.log2(100)})  # seed 2 has no baseline yet
    assert found.differences == pytest.approx([-1.0, -1.0])
