import numpy as np
import pytest

from experiments.harness import measures
from experiments.harness.claim import Contrast
from experiments.harness.statistics import Interval, as_claimed, holm, paired, verdict


def contrast(**changes):
    return Contrast(
        **{"measure": measures.last("x", 0.0), "unit": "x", "arm": "a", "baseline": "b", "margin": 0.1, **changes}
    )


def test_interval_is_students():
    # The 97.5 % point of Student's t with 4 degrees of freedom is 2.776 (any table).
    values = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    half = 2.776445 * np.sqrt(np.sum((values - 3.2) ** 2) / 4) / np.sqrt(5)
    found = paired(values)
    np.testing.assert_allclose([found.mean, found.low, found.high], [3.2, 3.2 - half, 3.2 + half], rtol=1e-6)


def test_half_widths_in_deviations_are_those_of_the_plan():
    for seeds, width in ((3, 2.48), (4, 1.59), (5, 1.24), (8, 0.84)):
        values = np.random.default_rng(seeds).normal(size=seeds)
        found = paired(values)
        assert (found.high - found.low) / 2 / values.std(ddof=1) == pytest.approx(width, abs=0.01)


def test_one_seed_says_nothing():
    assert paired([1.0])[:4] == (1.0, -np.inf, np.inf, 1.0)


def test_seeds_without_any_spread():
    assert paired([0.0, 0.0, 0.0])[:4] == (0.0, 0.0, 0.0, 1.0)
    assert paired([2.0, 2.0])[:4] == (2.0, 2.0, 2.0, 0.0)


def test_holm_steps_down_and_stays_where_it_stops():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=5)
    found = holm({"far": 50 + noise, "near": 0.1 + noise, "nearer": 0.2 + noise, "away": 20 + noise}, claims=6)
    levels = {name: 1 - interval.confidence for name, interval in found.items()}
    assert levels["far"] == pytest.approx(0.05 / 6)
    assert levels["away"] == pytest.approx(0.05 / 5)
    # "nearer" is not significant: it and all behind it are judged at the level where it stopped.
    assert levels["nearer"] == levels["near"] == pytest.approx(0.05 / 4)
    assert list(found) == ["far", "near", "nearer", "away"]


@pytest.mark.parametrize(
    ("low", "high", "claimed", "better", "word", "agrees"),
    [
        (-0.5, -0.2, "better", "lower", "holds", True),
        (-0.5, -0.2, "better", "higher", "reversed", False),
        (0.2, 0.5, "better", "higher", "holds", True),
        (-0.09, 0.05, "better", "lower", "equal", False),
        (-0.3, 0.05, "better", "lower", "undecided", False),
        (-0.05, -0.01, "better", "lower", "holds", True),
        (-0.05, -0.01, "equal", "lower", "equal", True),
        (0.02, 0.2, "equal", "lower", "reversed", False),
        (-0.2, 0.2, "equal", "lower", "undecided", False),
        (-0.05, 0.5, "not better", "lower", "holds", True),
        (-0.5, -0.2, "not better", "lower", "reversed", False),
        (-0.5, 0.2, "not better", "lower", "undecided", False),
    ],
)
def test_verdicts(low, high, claimed, better, word, agrees):
    rule = contrast(claimed=claimed, better=better)
    found = verdict(Interval((low + high) / 2, low, high, 0.5, 0.95), rule)
    assert found == word
    assert as_claimed(found, rule) == agrees
