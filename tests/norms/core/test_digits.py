"""Digits of values and gradients on data that cost digits; errors in units in the last place of the row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from benchmarks.accuracy import oracle
from benchmarks.accuracy.inputs import KINDS, Kind, rows_of
from benchmarks.accuracy.layouts import LAYOUTS
from benchmarks.accuracy.measure import MASKS, Errors, Setting, case_of, forget_programs, measure

BOTH_SIGNS = "large features of both signs"
"""There the sum itself, in float32, has no more digits: every library errs by a hundred and more."""


def at_most(kind):
    """How far values and gradients may be off.

    Beside a large feature each addition rounds with the digits of that feature, so values depend on the order in which
    a compiler adds for a processor: over twenty draws of data, in two orders, they erred by 6.3 at worst.
    """
    beside_large = 400 if kind.name == BOTH_SIGNS else 7
    return Errors(values=4.5 if kind.outliers is None else beside_large, gradients=5)


def names(case):
    return f"{case.name}, epsilon {case.epsilon:g}" if isinstance(case, Kind) else case


def errors(norm, kind, mask, size, level=None, dtype="float32"):
    layout = LAYOUTS[norm]
    return measure("ours", layout, case_of(kind, layout.center, mask, size, dtype), Setting(mask, level))


@pytest.mark.parametrize("kind", KINDS, ids=names)
@pytest.mark.parametrize("norm", LAYOUTS)
def test_values_and_gradients_keep_their_digits(norm, kind):
    for mask in MASKS:
        got = errors(norm, kind, mask, 650)
        assert all(np.less_equal(got, at_most(kind))), (mask, got)


@pytest.mark.parametrize("level", [None, 0])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.outliers is None], ids=names)
def test_neither_few_elements_nor_an_idle_compiler_cost_digits(kind, level):
    for norm in ("layer_norm", "batch_norm"):
        for mask in ("none", "half"):
            got = errors(norm, kind, mask, 97, level)
            assert max(got) <= 4, (norm, mask, got)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.only_float32], ids=names)
def test_bfloat16_is_rounded_once(kind):
    for norm in ("layer_norm", "batch_norm"):
        got = errors(norm, kind, "none", 650, dtype="bfloat16")
        assert max(got) <= 0.51, (norm, got)


def test_errors_are_seen():
    """One unit in the last place of a result is one; a wrong epsilon is many."""
    kind = KINDS[0]
    x, cotangent = rows_of(kind, 3, 50, "float32")
    y, _ = oracle.normalized(x, cotangent, kind.epsilon)
    largest = np.abs(y).max(axis=1, keepdims=True)
    off = np.where(np.abs(y) == largest, y + np.spacing(largest.astype(np.float32)), y)
    assert oracle.ulps(off, y, kind, x, None) == pytest.approx(1)
    assert oracle.ulps(oracle.normalized(x, cotangent, 1e-3)[0], y, kind, x, None) > 1000
    zeros = np.zeros_like(y)
    assert oracle.ulps(zeros, zeros, kind, x, None) == 0
    assert np.isinf(oracle.ulps(zeros + 1e-30, zeros, kind, x, None))


OTHERS = {
    "assorted_time": jn.zoo.AssortedTimeNorm(5),
    "in_place": jn.zoo.InPlaceBatchNorm(),
    "renorm": jn.zoo.BatchRenorm(),
    "momentum": jn.zoo.MomentumBatchNorm(),
    "frame_wise": jn.zoo.FrameWiseBatchNorm(20),
    "mean_only": jn.zoo.MeanOnlyBatchNorm(),
    "virtual": jn.zoo.VirtualBatchNorm(),
    "ghost": jn.zoo.GhostBatchNorm(10),
    "divisive": jn.zoo.DivisiveNorm(5),
    "l1": jn.zoo.LpBatchNorm(),
    "l_infinity": jn.zoo.LpBatchNorm(deviation="l_infinity"),
    "top_k": jn.zoo.LpBatchNorm(deviation="top_k"),
    "range": jn.zoo.RangeBatchNorm(),
    "iter": jn.zoo.IterNorm(4),
    "decorrelated": jn.zoo.DecorrelatedBatchNorm(4),
}
"""Statistics of a batch, or of several steps, that are not those of batch normalization."""


def trained(spec, x, cotangent, dtype, mean):
    """Values, and the gradient of x, in a dtype; the running mean is near the data."""
    shape = spec.param_shape(x.shape)
    params, stats = spec.init(shape, dtype), spec.initial_stats(shape, dtype)
    if hasattr(stats, "mean"):
        stats = stats._replace(mean=stats.mean + jnp.asarray(mean, dtype))
    run = jax.jit(lambda x: spec.train(params, x, stats)[0])
    y, pull_back = jax.vjp(run, jnp.asarray(x, dtype))
    return np.asarray(y, np.float64), np.asarray(pull_back(jnp.asarray(cotangent, dtype))[0], np.float64)


@pytest.mark.parametrize("name", OTHERS)
def test_other_statistics_keep_the_digits_of_data_far_from_zero(name, rng):
    shape, offset = (20, 30, 8), np.float32(1e4)
    x, cotangent = (rng.standard_normal(shape) + 1e4).astype(np.float32), rng.standard_normal(shape).astype(np.float32)
    got = trained(OTHERS[name], x, cotangent, jnp.float32, offset + np.float32(0.3))
    with jax.enable_x64(True):
        wanted = trained(OTHERS[name], x, cotangent, jnp.float64, np.float64(offset + np.float32(0.3)))
    for one, want in zip(got, wanted, strict=True):
        assert np.abs(one - want).max() <= 12 * 2.0**-23 * np.abs(want).max()


@pytest.mark.parametrize("name", ["in_place", "frame_wise", "l1", "l_infinity", "top_k", "range"])
def test_values_and_gradients_hold_for_large_data(name, rng):
    x, cotangent = (rng.standard_normal((20, 30, 8)).astype(np.float32) for _ in range(2))
    got = trained(OTHERS[name], x * np.float32(1e20), cotangent, jnp.float32, 0.0)
    with jax.enable_x64(True):
        wanted = trained(OTHERS[name], (x * np.float32(1e20)).astype(np.float64), cotangent, jnp.float64, 0.0)
    for one, want in zip(got, wanted, strict=True):
        assert np.abs(one - want).max() <= 12 * 2.0**-23 * np.abs(want).max()


@pytest.fixture
def on_gpus(monkeypatch):
    """Programs are traced as if for GPUs, and none traced before is taken for one of them."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    forget_programs()
    yield
    forget_programs()


@pytest.mark.parametrize("kind", KINDS, ids=names)
@pytest.mark.parametrize("norm", [norm for norm in LAYOUTS if norm.startswith("layer_norm")])
def test_sums_one_after_the_other_keep_their_digits(norm, kind, on_gpus):
    for mask in MASKS:
        got = errors(norm, kind, mask, 650)
        assert all(np.less_equal(got, at_most(kind))), (mask, got)


@pytest.mark.parametrize("features", [6, 97, 650])
def test_equal_data_become_the_bias_on_gpus(features, on_gpus, rng):
    """Of many sizes: the sums of some are rounded."""
    values = np.float32(10 ** rng.uniform(-3, 10, (300, 1)))
    x = jnp.asarray(np.repeat(values, features, axis=1))
    y = jn.layer_norm(x, jnp.full(features, 3.0), jnp.ones(features), epsilon=0.0)
    np.testing.assert_array_equal(y, 1.0)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (jn.layer_norm, 3),
        (lambda x: jn.layer_norm(x, axis=0), 2),
        (lambda x: jn.group_norm(x, num_groups=2, axis=-1), 3),
        (lambda x: jn.group_norm(x[:, None], num_groups=2), 4),  # two for each: positions, then features of a group
        (lambda x: jn.batch_norm(x)[0], 2),
    ],
    ids=["rows", "columns", "rows of groups", "groups", "batch"],
)
def test_only_rows_have_a_pass_for_each_sum(norm, expected, on_gpus):
    """How deep sums lie in one another: the mean, what rounding took from it, the variance about both."""
    program = jax.make_jaxpr(norm)(jnp.ones((6, 8)))
    assert _deepest(program.jaxpr, {}) == expected


def _deepest(jaxpr, depth):
    """The most sums in a row that any value of a program waits for."""
    for equation in jaxpr.eqns:
        before = max((depth.get(v, 0) for v in equation.invars if not hasattr(v, "val")), default=0)
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr")]
        if equation.primitive.name == "cond":
            inner = list(equation.params["branches"])
        after = before + (equation.primitive.name == "reduce_sum")
        for each in inner:
            known = dict.fromkeys(each.jaxpr.invars, before)
            after = max(after, _deepest(each.jaxpr, known))
        depth.update(dict.fromkeys(equation.outvars, after))
    return max(depth.values(), default=0)
