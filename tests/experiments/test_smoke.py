"""Each experiment runs from end to end on what is installed; three of them in all tests, the others in make full."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.claims import NAMES, claim_named
from experiments.harness.records import Records

ROOT = Path(__file__).parents[2]
OFTEN = ("mnist", "invariances", "learning_rates")
SHORTENED = [name for name in NAMES if claim_named(name).smoke_arms]


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.heavy) for name in NAMES]
)
def test_experiment_runs(name, tmp_path):
    claim = claim_named(name)
    assert smoke(name, tmp_path) == set(claim.smoke_arms or claim.arms)


@pytest.mark.heavy
@pytest.mark.parametrize("name", SHORTENED)
def test_arms_that_a_smoke_run_leaves_out(name, tmp_path):
    claim = claim_named(name)
    others = set(claim.arms) - set(claim.smoke_arms)
    assert smoke(name, tmp_path, "--arms", *others) == others


def smoke(name, out, *words):
    """Runs an experiment; returns the arms with final runs."""
    command = [sys.executable, "-m", "experiments", "run", name, "--smoke", "--out", str(out), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {run.arm for run in Records(out, name).runs(claim_named(name).arms) if run.phase == "final"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_claim_says_before_it_runs(name):
    claim = claim_named(name)
    assert claim.name == name
    assert claim.number == NAMES.index(name) + 1
    assert {"small", "paper", "smoke"} <= set(claim.scales)
    assert set(claim.contrast.arms) <= set(claim.arms)
    assert set(claim.smoke_arms) <= set(claim.arms)
    assert claim.contrast.margin >= 0
    assert claim.smaller
    assert claim.published
    assert claim.source
    for arm in claim.arms:
        rates = claim.rates_of(arm)
        assert len(rates) >= 2 or claim.calculate is not None
        assert all(1.9 <= high / low <= 3.4 for low, high in itertools.pairwise(rates))
