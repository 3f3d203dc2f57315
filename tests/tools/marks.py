"""Marks that say when a test runs."""

import pytest


def mostly_heavy(values, kept=1):
    """The values as parameters, a tuple for several; those after the first ``kept`` run with ``make full`` alone."""
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*row, marks=[pytest.mark.heavy] * (i >= kept)) for i, row in enumerate(rows)]
