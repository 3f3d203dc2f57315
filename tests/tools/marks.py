"""Which rows of a test run when: marks, and a share of all rows."""

import zlib

import pytest


def mostly_heavy(values, kept=1):
    """The values as parameters, a tuple for several; those after the first ``kept`` run with ``make full`` alone."""
    rows = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*row, marks=[pytest.mark.heavy] * (i >= kept)) for i, row in enumerate(rows)]


def share(names, one_in):
    """The first row of each test and one in ``one_in`` of its others; which ones depends on their names alone."""
    seen = set()
    for name in names:
        test = name.partition("[")[0]
        if test not in seen or zlib.crc32(name.encode()) % one_in == 0:
            yield name
        seen.add(test)
