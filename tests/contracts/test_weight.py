"""The contract of all weight normalizers: every promise of ``weight_checks.py`` over every row of the table."""

import importlib

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from jaxnorm.weight_norms import direction
from tests import cases
from tests.contracts import weight_checks as checks

WEIGHT_NORM = importlib.import_module("jaxnorm.weight_norms.weight_norm")  # the function of that name hides it

every_weight = pytest.mark.parametrize("case", cases.WEIGHTS, ids=str)
BY_NAME = {case.name: case for case in cases.WEIGHTS}


@every_weight
def test_values_in_every_dtype(case, rng):
    checks.check_values_in_every_dtype(case, rng)


@every_weight
def test_eager_execution(case, rng):
    checks.check_eager_execution(case, rng)


@every_weight
def test_vmap_equals_loop(case, rng):
    checks.check_vmap_equals_loop(case, rng)


@every_weight
def test_degenerate_kernels(case, rng):
    checks.check_degenerate_kernels(case, rng)


@every_weight
def test_range_of_float32(case, rng):
    checks.check_range(case, rng)


@every_weight
def test_derivatives_against_finite_differences(case, rng, x64):
    checks.check_derivatives(case, rng)


@every_weight
def test_invariances_are_exactly_those_of_the_table(case, rng):
    checks.check_invariances(case, rng)


@every_weight
def test_fresh_weights(case, rng):
    checks.check_fresh_weights(case, rng)


@every_weight
def test_spec_is_a_value(case):
    checks.check_spec_is_a_value(case)


@every_weight
def test_equal_specs_trace_once(case, rng):
    checks.check_equal_specs_trace_once(case, rng)


def test_every_exported_weight_normalizer_has_a_row():
    kinds = [value for value in cases.PUBLIC.values() if isinstance(value, type)]
    specs = {kind for kind in kinds if issubclass(kind, jn.WeightNormalizer)} - {jn.WeightNormalizer}
    assert specs == {type(case.spec) for case in cases.WEIGHTS}


# ---- the checks can fail


def planted_without_selection(x, axes):
    """The length and direction as they are usually written: 0/0 at zero."""
    length = jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))
    return length, x / length


@pytest.mark.parametrize("check", [checks.check_degenerate_kernels, checks.check_range], ids=lambda c: c.__name__)
def test_a_bare_root_is_caught(monkeypatch, rng, check):
    for module in (direction, WEIGHT_NORM, importlib.import_module("jaxnorm.weight_norms.bounded_weight_norm")):
        monkeypatch.setattr(module, "polar", planted_without_selection)
    with pytest.raises(AssertionError):
        check(BY_NAME["weight_norm"], rng)


def test_a_constant_length_is_caught(monkeypatch, rng):
    # The gradient of the length is what makes that of v orthogonal to v.
    monkeypatch.setattr(WEIGHT_NORM, "unit", lambda x, axes: x / jax.lax.stop_gradient(direction.polar(x, axes)[0]))
    with pytest.raises(AssertionError):
        checks.check_invariances(BY_NAME["weight_norm"], rng)


def test_a_lost_scale_is_caught(monkeypatch, rng):
    monkeypatch.setattr(WEIGHT_NORM.base, "rescale", lambda where, unit, scale, units, dtype: unit.astype(dtype))
    with pytest.raises(AssertionError):
        checks.check_values_in_every_dtype(BY_NAME["weight_norm"], rng)


# ---- errors


@every_weight
def test_bad_input_is_named(case, rng, unhooked):
    spec, kernel = case.spec, jnp.ones(case.shape)
    params, state = spec.init(kernel, jax.random.key(0))
    with pytest.raises(TypeError, match=r": params must be KernelParams\(kernel, scale\) as made by init"):
        spec(kernel, state)
    with pytest.raises(TypeError, match=r": kernel must have a real floating-point dtype, got int32. Convert it"):
        spec(params._replace(kernel=kernel.astype(jnp.int32)), state)
    with pytest.raises(TypeError, match=r": kernel must have a real floating-point dtype, got int32. Convert it"):
        spec.init(kernel.astype(jnp.int32), jax.random.key(0))
    with pytest.raises(ValueError, match=r"axis=7 is out of range for an array with \d axes"):
        type(spec)(axis=7).init(kernel, jax.random.key(0))
    if params.scale is not None:
        with pytest.raises(ValueError, match=r"scale must|do not fit"):
            spec(params._replace(scale=jnp.ones(11)), state)
    if state != ():
        with pytest.raises(TypeError, match=r": state must be the (Bounded|Spectral)State that init"):
            spec(params)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jn.WeightNorm(1.5), TypeError, r"WeightNorm: axis must be an int .*, got 1.5"),
        (
            lambda: jn.weight_norms.UnitNorm(()),
            TypeError,
            r"UnitNorm: axis must be an int or a non-empty tuple of ints, got \(\)",
        ),
        (
            lambda: jn.weight_norms.BoundedWeightNorm("gain"),
            ValueError,
            r"BoundedWeightNorm: mode must be one of 'scalar', 'gain_bounded'; got 'gain'",
        ),
        (
            lambda: jn.weight_norms.CenteredWeightNorm(epsilon=-1.0),
            ValueError,
            r"CenteredWeightNorm: epsilon must be .*, got -1.0",
        ),
        (lambda: jn.WeightStandardization(ddof=2), ValueError, r"WeightStandardization: ddof must be 0 or 1, got 2"),
        (
            lambda: jn.weight_standardization(jnp.ones((1, 3)), ddof=1),
            ValueError,
            r"weight_standardization: a unit of kernel with shape \(1, 3\) has 1 inputs .* ddof=1 needs more",
        ),
        (lambda: jn.SpectralNorm(iterations=0), ValueError, r"SpectralNorm: iterations must be a positive integer"),
        (
            lambda: jn.SpectralNorm().init(jnp.ones((2, 2))),
            ValueError,
            r"SpectralNorm.init: .* random vector, but key is None. Pass key=",
        ),
        (
            lambda: jn.spectral_norm(jnp.ones((2, 3)), jn.weight_norms.SpectralState(jnp.ones(2), jnp.ones(2))),
            ValueError,
            r"power_iteration: state.u must have shape \(units,\) = \(3,\), got \(2,\). Was the state made by init",
        ),
        (
            lambda: jn.weight_norms.power_iteration(
                jnp.ones((2, 3)), jn.weight_norms.SpectralState(jnp.ones(3), jnp.ones(2)), iterations=-1
            ),
            ValueError,
            r"power_iteration: iterations must be an integer of at least zero, got -1",
        ),
        (lambda: jn.weight_norm(jnp.ones(())), ValueError, r"weight_norm: kernel must have at least one axis"),
        (
            lambda: jn.weight_norms.data_dependent_init([(lambda x: x[0, 0], lambda y: y)], jnp.ones((2, 3))),
            ValueError,
            r"data_dependent_init: t of layer 0 must have a batch before its 1 feature axes, got shape \(\)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, error, message, unhooked):
    with pytest.raises(error, match=message):
        make()


def test_lists_become_tuples_so_that_specs_stay_hashable(unhooked):
    assert hash(jn.WeightNorm([0, 1])) == hash(jn.WeightNorm((0, 1)))
