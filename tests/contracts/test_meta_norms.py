"""The guards of the normalizers fail when a fault is planted: a check that cannot fail proves nothing."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.norms.core import moments as statistics
from jaxnorm.norms.core import reduction, running, standardize
from tests import cases
from tests.contracts import norm_checks as checks
from tests.defects import test_norms as defects

BY_NAME = {case.name: case for case in cases.NORMS}


def caught(check, name, *args):
    """Whether the check fails on the row of that name; it must pass without the fault, which other tests show."""
    with pytest.raises(AssertionError):
        check(BY_NAME[name], *args)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (standardize, "layer_norm"),
        (standardize, "rms_norm"),
        (standardize, "batch_norm"),
        (statistics, "momentum_batch_norm"),
    ],
)
def test_an_unmasked_sum_is_caught(monkeypatch, rng, module, name):
    monkeypatch.setattr(module, "masked", lambda x, where: x)
    caught(checks.check_masks, name, rng)


def test_an_unmasked_sum_lets_nan_through(monkeypatch, rng):
    monkeypatch.setattr(standardize, "masked", lambda x, where: x)
    caught(checks.check_gradients_of_hostile_data, "layer_norm_two_axes", rng)


def test_a_mask_that_multiplies_is_caught(monkeypatch, rng):
    # NaN times zero is NaN: the usual way of masking protects nothing.
    monkeypatch.setattr(standardize, "masked", lambda x, where: x if where is None else x * where.astype(x.dtype))
    caught(checks.check_eager_execution, "rms_norm", rng)


def test_an_unmasked_count_is_caught(monkeypatch, rng):
    count = reduction.count_over
    monkeypatch.setattr(reduction, "count_over", lambda x, where, axes, names: count(x, None, axes, names))
    caught(checks.check_masks, "batch_norm", rng)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm"])
def test_a_dropped_bias_is_caught(monkeypatch, rng, name):
    affine = statistics.aligned_affine

    def without_bias(where, scale, bias, x, axes):
        return affine(where, scale, None, x, axes)

    for module in map(importlib.import_module, ("jaxnorm.norms.layer_norm", "jaxnorm.norms.group_norm")):
        monkeypatch.setattr(module, "aligned_affine", without_bias)
    caught(checks.check_values_in_every_dtype, name, rng)


def test_a_mean_of_means_is_caught(monkeypatch, rng):
    whole = reduction.Reduction.count_and_sum

    def mean_of_means(self, where, data):
        own = self._replace(axis_name=None)
        count, total = whole(own, where, data)
        if self.axis_name is None:
            return count, total
        members = jax.lax.psum(count, self.axis_name)
        return members, members * jax.lax.pmean(total / count, self.axis_name)

    monkeypatch.setattr(reduction.Reduction, "count_and_sum", mean_of_means)
    caught(checks.check_named_axis_equals_batch, "batch_norm", rng)


def test_statistics_in_the_dtype_of_the_data_are_caught(monkeypatch, rng):
    monkeypatch.setattr(statistics, "statistics_dtype", jnp.dtype)
    caught(checks.check_values_in_every_dtype, "streaming_norm", rng)


def test_a_stopped_gradient_is_caught(monkeypatch, rng, x64):
    total = statistics.sum_over
    monkeypatch.setattr(statistics, "sum_over", lambda *args: jax.lax.stop_gradient(total(*args)))
    caught(checks.check_derivatives, "momentum_batch_norm", rng)


@pytest.mark.parametrize("forgotten", ["the mean", "the mean of the products"])
def test_a_wrong_derivative_is_caught(forgotten, monkeypatch, rng, x64):
    def wrong(rule, primals, tangents):
        (x, where, scale, bias), (t, _, t_scale, t_bias) = primals, tangents
        by, elements = standardize._measure(rule, x, where, twice=True), rule.reduction
        y, t = standardize._apply(rule, x, where, by), statistics.masked(t, where)
        products, mean = (elements.broadcast(mean) for mean in elements.means(by.elements, y * t, t))
        removed = y * products if forgotten == "the mean" else mean
        change = elements.broadcast(by.factor) * (t - removed) * scale + y * t_scale + t_bias
        return standardize._results(rule, x, where, scale, bias, by), (statistics.masked(change, where), ())

    faulty = jax.custom_jvp(standardize._standardize.__wrapped__, nondiff_argnums=(0,))
    faulty.defjvp(wrong)
    monkeypatch.setattr(standardize, "_standardize", faulty)
    caught(checks.check_derivatives, "layer_norm", rng)


def test_a_wrong_row_of_the_table_is_caught(rng):
    case = BY_NAME["rms_norm"]
    for wrong in (cases.LN, ("scale",)):
        with pytest.raises(AssertionError):
            checks.check_invariances(case._replace(invariant_to=wrong), rng)


def test_an_inverted_momentum_is_caught(monkeypatch):
    update_running = running.update_running

    def inverted(old, new, *, momentum=0.99, **rest):
        return update_running(old, new, momentum=None if momentum is None else 1 - momentum, **rest)

    monkeypatch.setattr(running, "update_running", inverted)
    with pytest.raises(AssertionError):
        defects.test_trap_10_bookkeeping_of_running_statistics(np.random.default_rng(1))
