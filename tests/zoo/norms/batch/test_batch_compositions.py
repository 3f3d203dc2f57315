"""What is peculiar to ghost, virtual, mean-only and frozen batch normalization."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles
from tests.zoo.norms import batch_oracles


def affine(rng, features):
    return jn.Affine(*(jnp.asarray(v, jnp.float32) for v in rng.standard_normal((2, features))))


def array(values):
    return jnp.asarray(values, jnp.float32)


# ---- ghost


def test_ghost_batches_do_not_see_each_other(rng):
    x = rng.standard_normal((6, 3))
    other = x.copy()
    other[2:4] = 100.0 * rng.standard_normal((2, 3))
    y, z = (np.asarray(jn.zoo.ghost_batch_norm(array(v), size=2)[0]) for v in (x, other))
    np.testing.assert_array_equal(y[[0, 1, 4, 5]], z[[0, 1, 4, 5]])
    assert np.abs(y[2:4] - z[2:4]).max() > 0


@pytest.mark.parametrize("ddof", [0, 1])
def test_ghost_running_statistics_move_as_if_one_came_after_the_other(rng, ddof):
    x = rng.standard_normal((8, 3)) * 2 + 1
    mask = np.ones((8, 1), bool)
    mask[2:4] = False  # the second ghost batch is empty,
    mask[5] = False  # the third has one example: no unbiased variance
    norm = jn.zoo.GhostBatchNorm(2, momentum=0.7, ddof=ddof)
    start = jn.Moments(array([1.0, 2.0, 3.0]), array([0.5, 1.0, 2.0]), array(4.0))
    _, parts = norm(affine(rng, 3), array(x), None, jnp.asarray(mask))
    folded = norm.update_running(start, parts)
    plain = jn.BatchNorm(momentum=0.7, ddof=ddof)
    want = start
    for i in range(4):
        part = slice(2 * i, 2 * i + 2)
        want = plain.update_running(want, jn.moments(array(x[part]), where=jnp.asarray(mask[part])))
    for a, b in zip(folded, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # Merged as one batch the average would move once, by 0.3.
    assert (
        np.abs(np.asarray(plain.update_running(start, jn.moments(array(x))).mean) - np.asarray(folded.mean)).max()
        > 1e-2
    )


def test_ghost_exact_average_merges(rng):
    x = rng.standard_normal((6, 3)) * 2 + 1
    norm = jn.zoo.GhostBatchNorm(2, momentum=None)
    _, parts = norm(norm.init((3,)), array(x))
    folded = norm.update_running(norm.initial_stats((3,)), parts)
    np.testing.assert_allclose(folded.mean, x.mean(0), atol=1e-5)
    np.testing.assert_allclose(folded.var, x.var(0), rtol=1e-4)
    assert folded.count == 6


def test_ghost_takes_statistics_of_all_data_and_scales_of_examples(rng):
    x, params = rng.standard_normal((4, 3)), affine(rng, 3)
    running = jn.moments(array(rng.standard_normal((9, 3))))
    y, _ = jn.zoo.GhostBatchNorm(3)(params, array(x), running)  # inference: any number of examples
    np.testing.assert_allclose(y, jn.batch_norm(array(x), *params, moments=running)[0], atol=1e-6)
    own = rng.standard_normal((4, 3))
    y, _ = jn.zoo.ghost_batch_norm(array(x), array(own), size=2)
    want = np.concatenate([oracles.batch_norm(x[i : i + 2]) for i in (0, 2)]) * own
    np.testing.assert_allclose(y, want, atol=2e-5)


# ---- virtual


@pytest.mark.parametrize(("shape", "axis"), [((5, 3), None), ((5, 4, 3), None), ((5, 3, 2, 2), (0, 2, 3))])
def test_virtual_is_the_authors_equation(rng, shape, axis):
    x, reference = rng.standard_normal((5, *shape[1:])) + 1, 2 * rng.standard_normal((7, *shape[1:])) - 1
    params = affine(rng, 3)
    norm = jn.zoo.VirtualBatchNorm(axis)
    plain, measured = norm(params, array(reference))
    np.testing.assert_allclose(plain, oracles.batch_norm(reference, *params, axis=axis), atol=2e-5)
    y, same = norm(params, array(x), measured)
    np.testing.assert_allclose(y, batch_oracles.virtual(x, *params, reference, axis=axis), atol=2e-5)
    assert same is measured
    # Outputs do not depend on the other examples.
    np.testing.assert_allclose(norm(params, array(x[:1]), measured)[0], y[:1], atol=1e-6)


def test_virtual_under_masks_and_its_gradients(rng):
    x = rng.standard_normal((4, 3, 2)).astype(np.float32)
    mask = rng.random((4, 3, 1)) < 0.6
    mask[0] = [[True], [False], [True]]
    mask[1] = False
    reference = jn.moments(array(rng.standard_normal((5, 3, 2))))
    weights = rng.standard_normal(x.shape).astype(np.float32)

    def loss(x, mean):
        y = jn.zoo.virtual_batch_norm(x, reference=reference._replace(mean=mean), where=jnp.asarray(mask))
        return jnp.sum(jnp.sin(y) * weights), y

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    results = [run(array(np.where(mask, x, filling)), reference.mean) for filling in (0.0, np.nan, np.inf)]
    chex.assert_tree_all_finite(results[0])
    chex.assert_trees_all_equal(*results)
    (_, y), (dx, dmean) = results[0]
    assert not np.asarray(y)[~np.broadcast_to(mask, y.shape)].any()
    assert not np.asarray(dx)[~np.broadcast_to(mask, y.shape)].any()
    assert np.abs(np.asarray(dmean)).min() > 0  # the gradient flows into the reference
    only = x[0][[0, 2]].astype(np.float64)  # 15 elements of the reference, two of the example
    mean = (15 * np.asarray(reference.mean) + only.sum(0)) / 17
    square = 15 * (np.asarray(reference.var) + np.asarray(reference.mean) ** 2) + (only**2).sum(0)
    np.testing.assert_allclose(
        y[0][jnp.array([0, 2])], (only - mean) / np.sqrt(square / 17 - mean**2 + 1e-5), atol=2e-5
    )


def test_virtual_reference_far_from_zero(rng):
    """The difference of squares of the published code loses all digits here."""
    x = 1e4 + rng.standard_normal((6, 3))
    reference = 1e4 + rng.standard_normal((9, 3))
    x, reference = (np.float64(np.float32(v)) for v in (x, reference))
    y = jn.zoo.virtual_batch_norm(array(x), reference=jn.moments(array(reference)))
    np.testing.assert_allclose(y, batch_oracles.virtual(x, None, None, reference), atol=5e-3)


def test_the_last_reference_replaces_the_one_before(rng):
    norm = jn.zoo.VirtualBatchNorm()
    first, second = (jn.moments(array(rng.standard_normal((4, 3)))) for _ in range(2))
    kept = norm.update_running(norm.update_running(norm.initial_stats((3,)), first), second)
    empty = jn.moments(jnp.ones((4, 3)), where=jnp.zeros((4, 3), bool))
    for folded in (kept, norm.update_running(kept, empty)):
        for a, b in zip(folded, second, strict=True):
            np.testing.assert_array_equal(a, b)


# ---- mean-only, frozen


def test_mean_only_derivative_and_running_mean(rng):
    x, cotangent = rng.standard_normal((2, 5, 3)).astype(np.float32)
    y, pull_back = jax.vjp(lambda x: jn.zoo.mean_only_batch_norm(x)[0], array(x))
    np.testing.assert_allclose(pull_back(array(cotangent))[0], cotangent - cotangent.mean(0), atol=1e-6)
    norm = jn.zoo.MeanOnlyBatchNorm()
    params = jn.Affine(None, array([0.5, -1.0, 2.0]))
    _, measured = norm(params, array(x))
    running = norm.update_running(norm.initial_stats((3,)), measured)
    np.testing.assert_allclose(running.mean, 0.1 * x.mean(0), atol=1e-6)
    np.testing.assert_allclose(running.var, 1.0)
    y, _ = norm(params, array(x), running)
    np.testing.assert_allclose(y, x - 0.1 * x.mean(0) + np.asarray(params.bias), atol=1e-6)
    jn.LSTM(3, norm=jn.CellNorms(input=norm))
    with pytest.raises(ValueError, match=r"MeanOnlyBatchNorm: params.scale must be None, got an array of shape \(3,\)"):
        norm(jn.Affine(jnp.ones(3), None), array(x))


def test_frozen_statistics_never_change(rng):
    norm, params = jn.zoo.FrozenBatchNorm(), affine(rng, 3)
    running = jn.moments(array(rng.standard_normal((7, 3))))
    x = array(rng.standard_normal((4, 3)))
    y, same = norm.train(params, x, running)
    np.testing.assert_array_equal(y, jn.BatchNorm()(params, x, running)[0])
    assert norm.update_running(running, same) is running
    # An example is normalized as it is alone, in training too.
    np.testing.assert_allclose(norm.train(params, x[:1], running)[0], y[:1], atol=1e-6)


def test_errors():
    x = jnp.ones((6, 2))
    with pytest.raises(
        ValueError, match=r"ghost_batch_norm: size=4 must divide the number of examples, got x of shape"
    ):
        jn.zoo.ghost_batch_norm(x, size=4)
    for function in (lambda x: jn.zoo.ghost_batch_norm(x, size=2, axis=1), lambda x: virtual(x, axis=1)):
        with pytest.raises(ValueError, match=r"axis=1 must contain 0, the axis of the examples"):
            function(x)
    with pytest.raises(ValueError, match=r"virtual_batch_norm: reference.mean must broadcast"):
        virtual(jnp.ones((6, 3)))
    with pytest.raises(ValueError, match=r"GhostBatchNorm: size must be a positive integer, got 0"):
        jn.zoo.GhostBatchNorm(0)
    with pytest.raises(ValueError, match=r"FrozenBatchNorm: stats is None"):
        jn.zoo.FrozenBatchNorm()(jn.Affine(None, None), x)
    for norm in (jn.zoo.GhostBatchNorm(2), jn.zoo.VirtualBatchNorm(), jn.zoo.FrozenBatchNorm()):
        with pytest.raises(ValueError, match=r"cannot be used inside a cell"):
            jn.LSTM(3, norm=norm)


def virtual(x, **options):
    return jn.zoo.virtual_batch_norm(x, reference=jn.moments(jnp.ones((3, 2))), **options)
