"""Rows that run always, rows that run with make full, and the share that CI takes."""

from tests.tools.marks import mostly_heavy, share

NAMES = [f"tests/norms/test_{test}.py::test_values[{row}]" for test in "ab" for row in range(300)]


def test_a_share_has_the_first_row_of_each_test_and_is_the_same_every_time():
    kept = list(share(NAMES, 3))
    assert kept == list(share(NAMES, 3))
    assert {NAMES[0], NAMES[300]} <= set(kept)
    assert 150 < len(kept) < 250
    assert set(share(NAMES[::-1], 3)) - {NAMES[-1], NAMES[299]} <= set(kept)  # which others: a matter of names


def test_a_share_of_one_is_all_and_tests_without_rows_stay():
    assert list(share(NAMES, 1)) == NAMES
    alone = [name.partition("[")[0] + str(i) for i, name in enumerate(NAMES)]
    assert list(share(alone, 7)) == alone


def test_rows_after_the_first_ones_are_heavy():
    rows = mostly_heavy([1, (2, 3), 4], kept=2)
    assert [row.values for row in rows] == [(1,), (2, 3), (4,)]
    assert [[mark.name for mark in row.marks] for row in rows] == [[], [], ["heavy"]]
