"""What other libraries got wrong about normalizers, and the traps that papers set: a named test for each.

``row_NN`` counts the defects found in other libraries, ``trap_NN`` the common mistakes in published code.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles

pytestmark = pytest.mark.long


def gradient(function, *args):
    """Gradients of the sum of the sine of a function's output with respect to all arguments."""
    every = tuple(range(len(args)))
    return jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), argnums=every))(*args)


def test_row_01_small_spread_on_a_large_offset():
    """A default one-pass variance gave 0.007 where 1.019 is right."""
    x = jnp.asarray([4096.0, 4096.02] * 8, jnp.float32)
    want = oracles.layer_norm(np.asarray(x))
    assert want[1] > 0.9
    # The mean of such data rounds by a fortieth of their spread; it is taken from a point near them.
    np.testing.assert_allclose(jn.layer_norm(x), want, rtol=1e-4)


def test_row_02_variance_on_an_offset_and_huge_data(rng):
    """One-pass variance was 0 for a true 0.25 at 10000, and squares of 1e20 overflowed to NaN."""
    np.testing.assert_allclose(jn.moments(jnp.asarray([1e4, 1e4 + 1] * 4), axis=0).var, 0.25, rtol=1e-6)
    huge = (1e20 * rng.standard_normal((2, 3, 8))).astype(np.float32)
    pairs = [
        (jn.layer_norm, oracles.layer_norm, {}),
        (jn.rms_norm, oracles.rms_norm, {}),
        (jn.group_norm, oracles.group_norm, {"num_groups": 2}),
        (jn.instance_norm, oracles.instance_norm, {}),
    ]
    for function, oracle, fields in pairs:
        np.testing.assert_allclose(function(jnp.asarray(huge), **fields), oracle(huge, **fields), rtol=1e-4, atol=1e-5)
    y, _ = jn.batch_norm(jnp.asarray(huge))
    assert np.isfinite(np.asarray(y)).all()


def test_row_03_group_norm_over_the_features_alone(rng):
    """Statistics of features only were repeated along the wrong axis (error 8.9), and a vector under vmap raised."""
    x = rng.standard_normal((2, 3, 4, 8)).astype(np.float32)
    want = oracles.group_norm(x, num_groups=4, axis=(-1,))
    np.testing.assert_allclose(jn.group_norm(jnp.asarray(x), num_groups=4, axis=(-1,)), want, atol=2e-5)
    each = jax.vmap(lambda v: jn.group_norm(v, num_groups=4))(x.reshape(-1, 8))
    np.testing.assert_allclose(each, want.reshape(-1, 8), atol=2e-5)


def test_row_04_masked_mean_over_a_named_axis():
    """The mean of the members' means was taken: 2.25 for counts of 2 and 1 where 2 is right."""
    x, mask = jnp.array([[1.0, 2.0], [3.0, jnp.nan]]), jnp.array([[True, True], [True, False]])

    def member(x, mask):
        return jn.batch_norm(x[:, None], where=mask[:, None], axis_name="devices")

    _, measured = jax.vmap(member, axis_name="devices", out_axes=(0, None))(x, mask)
    assert measured.mean == 2.0
    assert measured.count == 3.0
    np.testing.assert_allclose(measured.var, 2 / 3, rtol=1e-6)


def test_row_05_an_empty_mask_poisons_nothing():
    """A batch without a real element made outputs, and the running mean for ever, NaN."""
    spec = jn.BatchNorm()
    running = jn.Moments(jnp.array([0.5]), jnp.array([2.0]), jnp.array(3.0))
    params = spec.init((1,))
    y, measured = spec(params, jnp.array([[jnp.nan], [1.0]]), None, jnp.zeros((2, 1), bool))
    assert not np.asarray(y).any()
    for momentum in (0.99, None):
        for old, new in zip(running, jn.update_running(running, measured, momentum=momentum), strict=True):
            np.testing.assert_array_equal(old, new)


def test_row_06_nan_outside_the_mask_reaches_no_gradient(rng):
    """Masked NaN gave NaN gradients of the input and of the weights."""
    mask = jnp.array([[True, True, False, True], [False] * 4])
    x = jnp.where(mask, jnp.asarray(rng.standard_normal((2, 4)), jnp.float32), jnp.nan)
    scale, bias = jnp.asarray(rng.standard_normal((2, 4)), jnp.float32)
    clean = jnp.where(mask, x, 0.0)
    got, want = (gradient(lambda *a: jn.layer_norm(*a, where=mask), x, scale, bias) for x in (x, clean))
    chex.assert_tree_all_finite(got)
    chex.assert_trees_all_equal(got, want)


def test_row_07_running_statistics_stay_in_float32():
    """Running statistics were cast to bfloat16: 4.0 instead of 2.0."""
    running = jn.Moments(jnp.array([1000.5]), jnp.array([1.0]), jnp.array(1.0))
    # bfloat16 holds 1000 and 1004 but not 1000.5; the inputs 1004 and 1000 do not depend on rounding.
    x = jnp.array([[1004.0], [1000.0]], jnp.bfloat16)
    y, _ = jn.batch_norm(x, moments=running)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(y, np.float32), [[3.5], [-0.5]])
    spec = jn.BatchNorm()
    _, measured = spec(spec.init((1,), jnp.bfloat16), x)
    assert all(leaf.dtype == jnp.float32 for leaf in (*measured, *spec.update_running(running, measured)))
    assert spec.update_running(running, measured).mean == pytest.approx(0.99 * 1000.5 + 0.01 * 1002.0, rel=1e-6)


@pytest.mark.parametrize("momentum", [0.99, None])
def test_row_08_inference_is_right_from_the_first_step(rng, momentum):
    """Dividing a buffer that starts at 1 by 1 - m^n made inference ten times too small after a step."""
    x = jnp.asarray(rng.standard_normal((64, 1)) * 3 + 5, jnp.float32)
    spec = jn.BatchNorm(momentum=momentum, use_scale=False, use_bias=False)
    running = spec.initial_stats((1,))
    measured = jn.moments(x)
    for n in range(1, 4):
        running = spec.update_running(running, measured)
        weight = 1.0 if momentum is None else 1 - momentum**n
        # No correction that distorts: the average of the start (0, 1) and of the data; the data alone with None.
        np.testing.assert_allclose(running.mean, weight * np.asarray(measured.mean), rtol=1e-5)
        np.testing.assert_allclose(running.var, (1 - weight) + weight * np.asarray(measured.var), rtol=1e-5)
    if momentum is None:
        y, _ = spec(jn.Affine(None, None), x, running)
        np.testing.assert_allclose([np.mean(y), np.std(y)], [0.0, 1.0], atol=1e-5)


def test_row_09_bfloat16_data_with_an_offset(rng):
    """Statistics in bfloat16 gave NaN and a spread of 15 instead of 1."""
    x = jnp.asarray(3 + 0.05 * rng.standard_normal((256, 2)), jnp.bfloat16)
    y, measured = jn.batch_norm(x)
    assert y.dtype == jnp.bfloat16
    assert measured.mean.dtype == measured.var.dtype == jnp.float32
    want = oracles.batch_norm(np.asarray(x, np.float64))
    np.testing.assert_allclose(np.asarray(y, np.float64), want, atol=2e-2)
    np.testing.assert_allclose(np.std(np.asarray(y, np.float64), 0), 1.0, atol=1e-2)


def test_row_10_float32_data_with_a_large_offset():
    """One-pass variance gave 0.018 where 1 is right, on 10000 +- 0.05."""
    x = jnp.asarray([[1e4 - 0.05], [1e4 + 0.05]] * 4, jnp.float32)
    np.testing.assert_allclose(jn.batch_norm(x)[0], oracles.batch_norm(np.asarray(x)), rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.asarray(jn.batch_norm(x, epsilon=0.0)[0])), 1.0, rtol=1e-4)


def test_row_11_gradient_without_spread(rng):
    """epsilon=0 gave NaN forward and backward on a constant row."""
    x = jnp.concatenate([jnp.full((1, 8), 3.0), jnp.asarray(rng.standard_normal((1, 8)), jnp.float32)])
    scale, bias = jnp.asarray(rng.standard_normal((2, 8)), jnp.float32)
    y = jn.layer_norm(x, scale, bias, epsilon=0.0)
    np.testing.assert_array_equal(y[0], bias)
    np.testing.assert_allclose(y[1:], oracles.layer_norm(np.asarray(x)[1:], scale, bias, epsilon=0.0), atol=2e-5)
    constant, other = np.asarray(gradient(lambda x: jn.layer_norm(x, scale, bias, epsilon=0.0), x)[0])
    np.testing.assert_array_equal(constant, 0.0)
    assert np.abs(other).max() > 1e-3
    # With an epsilon the slope at zero spread is at most 1/sqrt(epsilon), by the equation.
    bound = np.abs(np.asarray(scale)).max() / np.sqrt(1e-5)
    assert 1.0 < np.abs(np.asarray(gradient(lambda x: jn.layer_norm(x, scale, bias), x)[0][0])).max() <= bound


def test_row_23_masks_need_not_have_the_features(rng):
    """A mask (B, T, 1) raised, though the documentation said that it broadcasts."""
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    mask = np.array([[True, True, False], [True, False, False]])[..., None]
    got = jn.group_norm(jnp.asarray(x), num_groups=2, where=jnp.asarray(mask))
    np.testing.assert_allclose(got, oracles.group_norm(x, num_groups=2, where=mask), atol=2e-5)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, scale: jn.layer_norm(x, scale),
        lambda x, scale: jn.rms_norm(x, scale),
        lambda x, scale: jn.batch_norm(x, scale),
        lambda x, scale: jn.group_norm(x, scale, num_groups=2),
        lambda x, scale: jn.instance_norm(x, scale),
    ],
)
def test_row_24_errors_name_the_argument_and_the_shapes(call):
    """Wrong shapes were reported by an operation inside, without the name of any argument."""
    with pytest.raises(
        ValueError, match=r"_?norm\w*: scale must broadcast to the shape of x = \(2, 3, 4\), got \(1, 1, 3\)"
    ):
        call(jnp.ones((2, 3, 4)), jnp.ones(3))


def test_trap_04_epsilon_inside_the_root():
    """Epsilon outside the root, none, 1e-3, or a division by the variance."""
    z = jnp.asarray([-1.0, 1.0, -1.0, 1.0])
    y = jn.layer_norm(1e-3 * z)
    np.testing.assert_allclose(np.std(np.asarray(y)), np.sqrt(1e-6 / (1e-6 + 1e-5)), rtol=1e-5)
    scale, beta = jnp.array([2.0, 3.0, -1.0, 0.5]), jnp.array([0.1, -0.2, 0.3, 7.0])
    for constant in (jnp.zeros(4), jnp.full(4, 3.0), jnp.full(4, 1e20)):
        np.testing.assert_array_equal(jn.layer_norm(constant, scale, beta), beta)
        chex.assert_tree_all_finite(gradient(jn.layer_norm, constant, scale, beta))


def test_trap_05_the_variance_is_biased():
    """The unbiased deviation, a default elsewhere, gives 0.7071 here."""
    x = jnp.array([[-1.0], [1.0]])
    np.testing.assert_array_equal(jn.layer_norm(x.T, epsilon=0.0), [[-1.0, 1.0]])
    np.testing.assert_array_equal(jn.batch_norm(x, epsilon=0.0)[0], x)
    np.testing.assert_array_equal(jn.group_norm(x.T, num_groups=1, epsilon=0.0), x.T)
    np.testing.assert_array_equal(jn.instance_norm(x[None], epsilon=0.0)[0], x)


def test_trap_09_padding_reaches_no_statistic(rng):
    """Padding leaked into statistics: the mean alone was masked, or nothing."""
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)  # (T, B, F)
    padded = np.full((10, 7, 3), 1e6, np.float32)
    padded[:5, :4] = x
    mask = np.zeros((10, 7, 1), bool)
    mask[:5, :4] = True
    spec = jn.BatchNorm(momentum=0.9, ddof=1)
    params = jn.Affine(*(jnp.asarray(rng.standard_normal(3), jnp.float32) for _ in range(2)))
    steps = jax.jit(jax.vmap(spec, in_axes=(None, 0, None, 0)))
    y, measured = steps(params, padded, None, mask)
    want, want_measured = steps(params, x, None, mask[:5, :4])
    np.testing.assert_array_equal(y[:5, :4], want)
    assert not np.asarray(y)[~np.broadcast_to(mask, y.shape)].any()
    single = spec.initial_stats((3,))
    table = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (10, *leaf.shape)), single)
    short = jax.tree.map(lambda leaf: leaf[:5], table)
    for a, b in zip(spec.update_running(single, measured), spec.update_running(single, want_measured), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    long = spec.update_running(table, measured)
    for a, b, start in zip(long, spec.update_running(short, want_measured), table, strict=True):
        np.testing.assert_array_equal(a[:5], b)
        np.testing.assert_array_equal(a[5:], start[5:])


def test_trap_10_bookkeeping_of_running_statistics(rng):
    """Momentum inverted, m/(m-1) missing or doubled, or running values used in training."""
    x = jnp.asarray(rng.standard_normal((4, 2)) + 3, jnp.float32)
    biased, m = np.asarray(x, np.float64).var(0), 4
    for ddof in (0, 1):
        spec = jn.BatchNorm(momentum=0.9, ddof=ddof)
        params = spec.init((2,))
        y, measured = spec(params, x)
        running = spec.update_running(spec.initial_stats((2,)), measured)
        np.testing.assert_allclose(running.mean, 0.1 * np.asarray(x).mean(0), rtol=1e-5)
        np.testing.assert_allclose(running.var, 0.9 + 0.1 * biased * (m / (m - 1) if ddof else 1.0), rtol=1e-5)
        # Training asks for no buffers at all, and what it measured is the biased variance whatever ddof.
        np.testing.assert_allclose(measured.var, biased, rtol=1e-5)
        np.testing.assert_allclose(y, oracles.batch_norm(np.asarray(x)), atol=2e-5)


def test_trap_f_layer_norm_does_not_see_the_rest_of_the_batch(rng):
    """Rows must be identical however the batch is shuffled or cut."""
    x = jnp.asarray(rng.standard_normal((6, 8)), jnp.float32)
    order = rng.permutation(6)
    y = np.asarray(jn.layer_norm(x))
    np.testing.assert_allclose(jn.layer_norm(x[order]), y[order], atol=1e-6)
    np.testing.assert_allclose(jn.layer_norm(x[2:4]), y[2:4], atol=1e-6)


def test_trap_h_bfloat16_data_far_from_zero(rng):
    """Mean 1000 and spread 1 in bfloat16 fails with a one-pass variance."""
    x = jnp.asarray(1000 + 8 * rng.standard_normal((4, 64)), jnp.bfloat16)
    want = jn.layer_norm(x.astype(jnp.float32))
    np.testing.assert_allclose(np.asarray(jn.layer_norm(x), np.float32), want, atol=1e-2, rtol=1e-2)


def test_trap_rms_epsilon_and_truncation():
    """Epsilon sat outside the root in one official code; k = int(p d) rounds down, and p d < 1 divided by zero."""
    x = jnp.array([3.0, 4.0, 100.0, 7.0, 1.0, 2.0, 5.0])
    # p d = 3.5: three coordinates are measured.
    rms = np.sqrt((9 + 16 + 1e4) / 3 + 0.5)
    np.testing.assert_allclose(jn.rms_norm(x, fraction=0.5, epsilon=0.5), np.asarray(x) / rms, rtol=1e-6)
    np.testing.assert_allclose(jn.rms_norm(jnp.full(4, 1e-3)), 1e-3 / np.sqrt(1e-6 + 1e-5), rtol=1e-5)
    with pytest.raises(ValueError, match=r"fraction=0.1 of 7 features leaves no coordinate"):
        jn.rms_norm(x, fraction=0.1)


def test_trap_instance_norm_of_a_single_position():
    """Height times width of one has no spread: the output is the bias."""
    y = jn.instance_norm(jnp.array([[[5.0, -3.0]]]), jnp.array([2.0, 2.0]), jnp.array([0.25, -1.0]))
    np.testing.assert_array_equal(y, [[[0.25, -1.0]]])
