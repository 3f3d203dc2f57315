import dataclasses

import numpy as np
import pytest

from experiments.harness import training
from experiments.harness.arm import best_rate, next_rate, run_arm
from experiments.harness.checkpoints import Checkpoints
from experiments.harness.claim import Scale
from experiments.harness.records import Records


def make(claim, arm, out, **options):
    told = []
    run_arm(claim, arm, scale="small", data=None, out=out, made_by={},
            tell=lambda done, total, what: told.append((done, total)), **{"seeds": None, **options})  # fmt: skip
    return Records(out, claim.name).runs([arm]), told


def descend(rate, seed, steps, factor=1.0):
    """The oracle: gradient descent of the fixture's line, in double precision."""
    slope = 0.0
    for step in range(steps):
        x = np.random.default_rng((seed, step)).normal(size=4).astype(np.float32).astype(float)
        slope -= rate * factor * np.mean(2 * (slope - 3) * x * x)
    return slope


def test_an_arm_sweeps_with_a_seed_of_its_own_then_runs_all_seeds(claim, tmp_path):
    runs, told = make(claim, "once", tmp_path)
    swept = [run for run in runs if run.phase == "sweep"]
    final = [run for run in runs if run.phase == "final"]
    assert [run.rate for run in swept] == [0.01, 0.03, 0.1, 0.333, 1.11]  # twice the best lay at the edge
    assert {run.seed for run in swept} == {1000}
    assert {run.steps for run in swept} == {4}
    assert [run.seed for run in final] == [0, 1, 2]
    assert {run.steps for run in final} == {8}
    assert {run.rate for run in final} == {best_rate(claim, swept)}
    assert told[-1][0] == told[-1][1] == 5 * 4 + 3 * 8
    for run in runs:
        slope = descend(run.rate, run.seed, run.steps)
        assert run.curve["valid_gap"][-1] == pytest.approx(abs(slope - 3), rel=1e-4)
        assert run.curve["seen"][-1] == run.steps
        assert run.curve["step"][-1] == run.steps
    assert all(run.test == {} for run in swept)
    assert final[0].test["test_gap"] == pytest.approx(abs(descend(final[0].rate, 0, 8) - 3), rel=1e-4)
    kept = np.load(tmp_path / "line" / "artifacts" / "once.npz")
    assert kept["slope"] == pytest.approx(descend(final[0].rate, 0, 8), rel=1e-4)


def test_metrics_are_means_since_the_last_evaluation(claim, tmp_path):
    runs, _ = make(claim, "once", tmp_path, seeds=1)
    final = runs[-1]
    expected = np.mean([2 * descend(final.rate, 0, step) for step in (0, 1)])
    assert final.curve["doubled"][0] == pytest.approx(expected, rel=1e-4)


def test_a_finished_run_is_not_made_again(claim, tmp_path, monkeypatch):
    first, _ = make(claim, "once", tmp_path)
    monkeypatch.setattr(training.Trainer, "run", None)
    again, _ = make(claim, "once", tmp_path)
    assert again == first


def test_a_run_that_was_cut_off_goes_on_to_the_same_numbers(claim, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.harness.checkpoints.SECONDS", 0.0)
    claim = dataclasses.replace(claim, rates=(0.05,), scales={"small": Scale(steps=20, evaluations=10, batch=4)})
    whole, _ = make(claim, "once", tmp_path / "whole", seeds=1)

    class Killed(Exception):
        pass

    def killed(done, total, what):
        if done == 10 + 13:
            raise Killed

    with pytest.raises(Killed):
        run_arm(claim, "once", scale="small", data=None, out=tmp_path / "cut", seeds=1, made_by={}, tell=killed)
    steps = []
    original = training.Trainer.run

    def watched(self, **options):
        told = options["told"]
        return original(self, **options | {"told": lambda number: (steps.append(number), told(number))})

    monkeypatch.setattr(training.Trainer, "run", watched)
    resumed, _ = make(claim, "once", tmp_path / "cut", seeds=1)
    assert steps == list(range(13, 21))  # from the checkpoint of step 12 on
    for one, other in zip(whole, resumed, strict=True):
        for name in ("step", "valid_gap", "seen", "train_loss", "gradient_norm"):
            assert one.curve[name] == other.curve[name]
    assert not (tmp_path / "cut" / "line" / "checkpoints").exists() or not list(
        (tmp_path / "cut" / "line" / "checkpoints" / "once").glob("*")
    )


def test_a_checkpoint_of_another_run_is_not_taken(claim, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.harness.checkpoints.SECONDS", 0.0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, {"a": np.ones(2)}, {"which": {"rate": 0.1}, "step": 3})
    assert checkpoints.restore({"a": np.zeros(2)}, {"rate": 0.2}) is None
    found, about = checkpoints.restore({"a": np.zeros(2)}, {"rate": 0.1})
    np.testing.assert_array_equal(found["a"], 1.0)
    assert about["step"] == 3
    checkpoints.clear()
    assert checkpoints.restore({"a": np.zeros(2)}, {"rate": 0.1}) is None


def test_a_run_that_diverges_says_when(claim, tmp_path):
    claim = dataclasses.replace(claim, rates=(1e30,), scales={"small": Scale(steps=20, evaluations=10, batch=4)})
    runs, _ = make(claim, "once", tmp_path, seeds=1)
    assert runs[-1].diverged is not None
    assert runs[-1].diverged < 20
    assert runs[-1].test == {}
    assert claim.contrast.measure([runs[-1]]) >= 2.9


def test_the_sweep_is_extended_beyond_the_edge_where_the_best_lies(claim, tmp_path):
    runs, _ = make(claim, "once", tmp_path, seeds=1)
    swept = [run for run in runs if run.phase == "sweep"]
    by_rate = {run.rate: run for run in swept}
    assert next_rate(claim, [by_rate[0.01], by_rate[0.03]]) == pytest.approx(0.09)
    flipped = dataclasses.replace(claim, contrast=dataclasses.replace(claim.contrast, better="higher"))
    assert next_rate(flipped, [by_rate[0.01], by_rate[0.03]]) == pytest.approx(0.00333)
    assert best_rate(flipped, [by_rate[0.01], by_rate[0.03]]) == 0.01
    assert best_rate(claim, [by_rate[0.01], by_rate[0.03]]) == 0.03


def test_every_rate_in_place_of_a_sweep(claim, tmp_path):
    claim = dataclasses.replace(claim, every_rate=True)
    runs, told = make(claim, "once", tmp_path, seeds=2)
    assert [(run.phase, run.seed, run.rate) for run in runs] == [
        ("final", seed, rate) for seed in (0, 1) for rate in (0.01, 0.03, 0.1)
    ]
    assert told[-1] == (48, 48)
