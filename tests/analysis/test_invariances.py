"""Table 1 of the layer normalization paper, row by row, and what follows for the normalizers that it does not have."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import analysis
from jaxnorm.analysis.invariances import TITLES

TINY = 1e-12


def weight_norm(kernel, xs):
    """Salimans, Kingma 2016, eq. 2 with g = 1: each unit's weights at length one."""
    return xs @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True))


# In the columns' order: matrix re-scaled, matrix re-centered, one vector re-scaled, data re-scaled, data re-centered,
# one case re-scaled. The first three rows are Table 1, the next two the one of the RMSNorm paper's code.
PUBLISHED = {
    "BatchNorm": (jn.BatchNorm(epsilon=TINY), (True, False, True, True, True, False)),
    "WeightNorm": (weight_norm, (True, False, True, False, False, False)),
    "LayerNorm": (jn.LayerNorm(epsilon=TINY), (True, True, False, True, False, True)),
    "RMSNorm": (jn.RMSNorm(epsilon=TINY), (True, False, False, True, False, True)),
    "pRMSNorm": (jn.RMSNorm(fraction=0.25, epsilon=TINY), (True, False, False, True, False, True)),
}
# Over groups of one case's features: as layer normalization. With positions in the statistics, what is added to all
# units of a position no longer goes with the mean, so re-centered weights show; a mean over positions of each feature
# takes re-centered data away and each unit's scale, and knows nothing of other cases.
REASONED = {
    "Identity": (jn.Identity(), (8,), (False,) * 6),
    "GroupNorm, no positions": (jn.GroupNorm(4, epsilon=TINY), (8,), (True, True, False, True, False, True)),
    "GroupNorm": (jn.GroupNorm(4, epsilon=TINY), (8, 6), (True, False, False, True, False, True)),
    "GroupNorm of features": (jn.GroupNorm(4, axis=-1, epsilon=TINY), (8, 6), (True, True, False, True, False, True)),
    "InstanceNorm": (jn.InstanceNorm(epsilon=TINY), (8, 6), (True, False, True, True, True, True)),
    "BatchNorm with positions": (jn.BatchNorm(epsilon=TINY), (8, 6), (True, False, True, True, True, False)),
    "LayerNorm with positions": (jn.LayerNorm(epsilon=TINY), (8, 6), (True, True, False, True, False, True)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_1(name):
    layer, expected = PUBLISHED[name]
    found = analysis.invariances(layer)
    assert found.holds == expected, str(found)
    clear = [v < 1e-5 if holds else v > 0.05 for v, holds in zip(found.violation, expected, strict=True)]
    assert all(clear), str(found)


@pytest.mark.parametrize("name", REASONED)
def test_normalizers_that_the_table_does_not_have(name):
    norm, batch_shape, expected = REASONED[name]
    found = analysis.invariances(norm, batch_shape=batch_shape)
    assert found.holds == expected, str(found)


def test_the_answer_does_not_hang_on_the_draw():
    for seed in (1, 2):
        found = analysis.invariances(PUBLISHED["LayerNorm"][0], key=jax.random.key(seed), factor=0.3)
        assert found.holds == PUBLISHED["LayerNorm"][1], str(found)


def test_violations_are_those_of_the_definition():
    # One product: scaling anything by d moves it by (d - 1) times itself; a shift moves all products of a case alike.
    found = analysis.invariances(jn.Identity(), in_features=3, out_features=1, batch_shape=(1,), factor=3.0)
    moved = found.violation
    scaled = (moved.weight_matrix_rescaling, moved.weight_vector_rescaling, moved.dataset_rescaling)
    np.testing.assert_allclose([*scaled, moved.single_case_rescaling], 2.0, rtol=1e-5)
    assert analysis.invariances(lambda kernel, xs: 0.0 * (xs @ kernel)).violation == (0.0,) * 6


def test_epsilon_is_seen_where_it_counts():
    norm = jn.LayerNorm(epsilon=1e-5)
    assert analysis.invariances(norm).holds.dataset_rescaling
    small = analysis.invariances(norm, factor=1e-3)
    assert not small.holds.dataset_rescaling
    assert small.violation.dataset_rescaling > 0.5


@dataclasses.dataclass(frozen=True)
class Slow:
    """Divides by a running root mean square, in training too."""

    momentum: float = 0.9

    def param_shape(self, shape):
        return shape[-1:]

    def init(self, shape, dtype=jnp.float32):
        return ()

    def initial_stats(self, shape):
        return jn.BatchNorm().initial_stats(shape)

    def __call__(self, params, x, stats=None, where=None):
        return self.train(params, x, stats, where)

    def train(self, params, x, running, where=None):
        return x / jnp.sqrt(running.var + running.mean**2)[None], jn.moments(x)

    def update_running(self, running, measured):
        return jn.update_running(running, measured, momentum=self.momentum)

    def check_site(self, where):
        pass


def test_running_statistics_that_training_looks_at_follow_the_change():
    assert analysis.invariances(Slow()).holds == (True, False, True, True, False, False)
    assert not any(analysis.invariances(Slow(), settle=0).holds)


def test_double_precision(x64):
    found = analysis.invariances(jn.LayerNorm(epsilon=1e-20))
    assert max(v for v, holds in zip(found.violation, found.holds, strict=True) if holds) < 1e-12


def test_it_prints_as_a_table():
    found = analysis.Invariances(analysis.PerChange(0.0, 1.0, 2e-7, 0.5, 0.0, 3.0), tolerance=1e-3)
    lines = str(found).splitlines()
    assert lines[0] == "| | invariant | violation |"
    assert lines[2:5] == [
        "| weight matrix re-scaling | yes | 0.0e+00 |",
        "| weight matrix re-centering | no | 1.0e+00 |",
        "| weight vector re-scaling | yes | 2.0e-07 |",
    ]
    assert len(lines) == 2 + len(TITLES)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": 3}, TypeError, r"invariances: layer must be a normalizer .*, got 3"),
        ({"in_features": 0}, ValueError, r"invariances: in_features must be a positive integer, got 0"),
        ({"batch_shape": ()}, ValueError, r"invariances: batch_shape must have an axis of training cases"),
        ({"batch_shape": (0,)}, ValueError, r"invariances: batch_shape\[0\] must be a positive integer"),
        ({"factor": 0.0}, ValueError, r"invariances: factor must be above 0, got 0.0"),
        ({"settle": -1}, ValueError, r"invariances: settle must be a positive integer, got -1"),
    ],
)
def test_errors(options, error, message, unhooked):
    with pytest.raises(error, match=message):
        analysis.invariances(**({"layer": jn.Identity()} | options))
