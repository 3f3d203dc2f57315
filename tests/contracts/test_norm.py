"""The contract of all normalizers: every promise of ``norm_checks.py`` over every row of the table."""

import re

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from tests import cases
from tests.contracts import norm_checks as checks

every_norm = pytest.mark.parametrize("case", cases.NORMS, ids=str)
spanning = [
    case for case in cases.NORMS if case.batch_statistics and case.spans_devices and hasattr(case.spec, "axis_name")
]
every_spanning_norm = pytest.mark.parametrize("case", spanning, ids=str)


@every_norm
def test_values_in_every_dtype(case, rng):
    checks.check_values_in_every_dtype(case, rng)


@every_norm
def test_masks_and_moments(case, rng):
    checks.check_masks(case, rng)


@every_norm
def test_eager_execution(case, rng):
    checks.check_eager_execution(case, rng)


@every_norm
def test_vmap_equals_loop(case, rng):
    checks.check_vmap_equals_loop(case, rng)


@every_spanning_norm
def test_named_axis_equals_batch(case, rng):
    checks.check_named_axis_equals_batch(case, rng)


@every_norm
def test_gradients_of_hostile_data(case, rng):
    checks.check_gradients_of_hostile_data(case, rng)


@every_norm
def test_nothing_to_measure(case, rng):
    checks.check_nothing_to_measure(case, rng)


@pytest.mark.parametrize("case", [case for case in cases.NORMS if not case.own_backward], ids=str)
def test_derivatives_against_finite_differences(case, rng, x64):
    checks.check_derivatives(case, rng)


@every_norm
def test_invariances_are_exactly_those_of_the_table(case, rng):
    checks.check_invariances(case, rng)


@every_norm
def test_spec_is_a_value(case):
    checks.check_spec_is_a_value(case)


@every_norm
def test_fresh_weights(case, rng):
    checks.check_fresh_weights(case, rng)


@every_norm
def test_equal_specs_trace_once(case, rng):
    checks.check_equal_specs_trace_once(case, rng)


def test_every_exported_normalizer_has_a_row():
    specs = {
        value for value in cases.PUBLIC.values() if isinstance(value, type) and issubclass(value, jn.Normalizer)
    } - {jn.Normalizer}
    rows = {type(case.spec) for case in cases.NORMS if case.name != "skeleton"}
    assert specs == rows, f"NORMS of tests/cases.py lacks {sorted(spec.__name__ for spec in specs - rows)}"


@pytest.mark.parametrize("case", [case for case in cases.NORMS if not isinstance(case.spec, jn.Identity)], ids=str)
def test_bad_input_is_named(case, rng, unhooked):
    spec, cls = case.spec, type(case.spec).__name__
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls)
    function = case.function or words.lower()
    running = cases.running_of(case)
    shape = case.spec.param_shape(case.shape)
    longer = tuple(size + 1 for size in shape)
    nothing = spec.init(shape)
    affine = {"scale", "bias"} <= set(nothing._fields)
    if affine:
        nothing = nothing._replace(scale=None, bias=None)
    weights = rf"{type(nothing).__name__}\({', '.join(nothing._fields)}\)"

    def refused(error, message, make):
        # Everything is known from shapes and dtypes: the errors come at trace time, nothing is compiled.
        with pytest.raises(error, match=message):
            jax.eval_shape(lambda: make(jnp.ones(case.shape)))

    refused(
        TypeError,
        rf"{function}\S*: xs? must be real, got complex64\. Put both parts side by side",
        lambda x: spec.train(nothing, x.astype(jnp.complex64), running),
    )
    refused(
        TypeError,
        rf"{function}\S*: xs? must be an array, got a list with 2 entries. Convert it",
        lambda x: spec.train(nothing, [1.0, 2.0], running),
    )
    refused(
        TypeError,
        rf"{function}: where must be a boolean array, True on real data, got float32. Write where != 0",
        lambda x: spec.train(nothing, x, running, x),
    )
    refused(
        ValueError,
        rf"{function}: where must broadcast to the shape of x = .*, got \(7,\). Add axes of size 1",
        lambda x: spec.train(nothing, x, running, jnp.ones(7, bool)),
    )
    refused(
        TypeError,
        rf"{cls}\S*: params must be {weights} as made by init\(shape\), got a tuple with 0 entries",
        lambda x: spec.train((), x, running),
    )
    if not affine:
        return
    if hasattr(spec, "use_scale"):
        refused(
            ValueError,
            rf"(?:{function}|normalize|batch_norm): scale must broadcast to the shape of x = .*, got .*",
            lambda x: spec.train(nothing._replace(scale=jnp.ones(longer)), x, running),
        )
    refused(
        TypeError,
        r"bias must have a real floating-point dtype, got int32",
        lambda x: spec.train(nothing._replace(bias=jnp.ones(shape, jnp.int32)), x, running),
    )
    refused(
        ValueError,
        r"scale, bias or statistics of shape \(1, 1, 1, 1, 1\) do not fit the . axes",
        lambda x: spec.train(nothing._replace(bias=jnp.ones((1,) * 5)), x, running),
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: jn.LayerNorm(epsilon=-1.0),
            ValueError,
            r"LayerNorm: epsilon must be a number in \[0.0, inf\], got -1",
        ),
        (lambda: jn.LayerNorm(epsilon=float("nan")), ValueError, r"LayerNorm: epsilon must be .*, got nan"),
        (lambda: jn.BatchNorm(epsilon=float("inf")), ValueError, r"BatchNorm: epsilon must be finite, got inf"),
        (lambda: jn.LayerNorm(()), TypeError, r"LayerNorm: axis must be an int or a non-empty tuple of ints, got \(\)"),
        (lambda: jn.RMSNorm(1.5), TypeError, r"RMSNorm: axis must be an int .*, got 1.5"),
        (lambda: jn.BatchNorm(True), TypeError, r"BatchNorm: axis must be an int .*, got True"),
        (lambda: jn.RMSNorm(fraction=0.0), ValueError, r"RMSNorm: fraction must be above 0, got 0. Use 1"),
        (lambda: jn.RMSNorm(fraction=1.5), ValueError, r"RMSNorm: fraction must be a number in \[0.0, 1.0\], got 1.5"),
        (lambda: jn.BatchNorm(momentum=1.01), ValueError, r"BatchNorm: momentum must be .*\[0.0, 1.0\], got 1.01"),
        (lambda: jn.BatchNorm(ddof=2), ValueError, r"BatchNorm: ddof must be 0 or 1, got 2"),
        (lambda: jn.GroupNorm(0), ValueError, r"GroupNorm: num_groups must be a positive integer, got 0"),
        (lambda: jn.GroupNorm(2.0), TypeError, r"GroupNorm: num_groups must be an integer, got 2.0"),
    ],
)
def test_bad_specs_are_refused(make, error, message, unhooked):
    with pytest.raises(error, match=message):
        make()


def test_lists_become_tuples_so_that_specs_stay_hashable(unhooked):
    specs = [
        jn.LayerNorm([0, 1]),
        jn.BatchNorm([0], axis_name=["a", "b"]),
        jn.RMSNorm([-1]),
        jn.GroupNorm(2, axis=[1, 2]),
    ]
    assert len({hash(spec) for spec in specs}) == len(specs)
    assert specs[0] == jn.LayerNorm((0, 1))


@every_norm
def test_axes_out_of_range(case):
    if getattr(case.spec, "axis", None) in (None, -1):
        return
    weights = case.spec.init(case.spec.param_shape(case.shape))
    with pytest.raises(ValueError, match=r"axis=.* is out of range for an array with 1 axes"):
        jax.eval_shape(lambda: checks.train(case, weights, jnp.ones(8)))
