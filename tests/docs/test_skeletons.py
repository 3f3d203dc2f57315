"""The skeletons for contributors: their own tests and examples pass. Rows of the tables hold them to the contracts."""

import doctest

import pytest

from tests import cases
from tests.tools.docs import SKELETONS, load


def collect(name):
    """Hands the tests of a skeleton to pytest, under the name of the skeleton."""
    found = {key: value for key, value in vars(load(name)).items() if key.startswith("test_")}
    assert found, f"{name} has no test"
    globals().update({f"test_skeleton_{name}_{key}": value for key, value in found.items()})


collect("test_normalizer")
collect("test_cell")
collect("test_gated_cell")


def test_every_skeleton_is_a_row_of_a_table():
    specs = [case.spec for case in cases.NORMS] + [case.cell for case in cases.CELLS]
    modules = {type(spec).__module__ for spec in specs if not type(spec).__module__.startswith("jaxnorm.")}
    assert modules == {"normalizer", "cell", "gated_cell"}


@pytest.mark.parametrize("name", ["normalizer", "cell", "gated_cell"])
def test_docstring_examples(name):
    failed, tried = doctest.testmod(load(name))
    assert tried > 0
    assert failed == 0


def test_every_skeleton_is_exercised():
    names = {path.stem for path in SKELETONS.glob("*.py")}
    assert names == {kind + name for kind in ("", "test_") for name in ("normalizer", "cell", "gated_cell")}
