"""The skeletons for contributors work: their own tests pass, and the contracts hold for what they define."""

import doctest
import importlib
import sys
from pathlib import Path

import pytest

import jaxnorm as jn
from tests import cell_checks
from tests.cases import NormCase
from tests.contracts import norm_checks

SKELETONS = Path(__file__).parents[1] / "docs" / "skeletons"


def load(name):
    """Imports a skeleton; the test skeletons import their neighbors by bare names."""
    sys.path.insert(0, str(SKELETONS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SKELETONS))


def collect(name):
    """Hands the tests of a skeleton to pytest, under the name of the skeleton."""
    found = {key: value for key, value in vars(load(name)).items() if key.startswith("test_")}
    assert found, f"{name} has no test"
    globals().update({f"test_skeleton_{name}_{key}": value for key, value in found.items()})


collect("test_normalizer")
collect("test_cell")


def test_the_normalizer_keeps_the_contract(rng):
    case = NormCase("abs_norm", load("normalizer").AbsNorm(), (6, 8), invariant_to=("scale", "example_scale"))
    assert isinstance(case.spec, jn.Normalizer)
    assert len({case.spec, load("normalizer").AbsNorm(), load("normalizer").AbsNorm(epsilon=1e-3)}) == 2
    norm_checks.check_gradients_of_hostile_data(case, rng)
    norm_checks.check_invariances(case, rng)


def test_the_cell_keeps_the_contract(x64):
    cell = load("cell").Leaky(4, norm=jn.BatchNorm(), max_steps=3)
    assert isinstance(cell, jn.Cell)
    assert len({cell, load("cell").Leaky(4, norm=jn.BatchNorm(), max_steps=3), load("cell").Leaky(4)}) == 2
    cell_checks.check_loop(cell)


@pytest.mark.parametrize("name", ["normalizer", "cell"])
def test_docstring_examples(name):
    failed, tried = doctest.testmod(load(name))
    assert tried > 0
    assert failed == 0


def test_every_skeleton_is_exercised():
    names = {path.stem for path in SKELETONS.glob("*.py")}
    assert names == {"normalizer", "test_normalizer", "cell", "test_cell"}
