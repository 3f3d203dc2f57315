"""What is peculiar to statistics of sequences, of classes, and of moving averages."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles
from tests.zoo.norms import batch_oracles


def affine(rng, *shape):
    return jn.Affine(*(jnp.asarray(v, jnp.float32) for v in rng.standard_normal((2, *shape))))


def array(values):
    return jnp.asarray(values, jnp.float32)


LENGTHS = jnp.array([5, 2, 0, 3])


# ---- frame-wise, sequence-wise


def test_sequence_wise_is_the_masked_form(rng):
    x, params = rng.standard_normal((5, 4, 3)) * 2 + 1, affine(rng, 3)
    mask = (np.arange(5)[:, None] < np.asarray(LENGTHS))[..., None]
    poisoned = array(np.where(mask, x, np.nan))
    y, measured = jn.zoo.sequence_wise_batch_norm(poisoned, *params, lengths=LENGTHS, epsilon=1e-6)
    want = oracles.affine(batch_oracles.sequence_wise(x, mask, 1e-6), *params, (2,), mask)
    np.testing.assert_allclose(y, want, atol=2e-5)
    assert measured.count == 10
    again, _ = jn.BatchNorm(epsilon=1e-6)(params, poisoned, None, jnp.asarray(mask))
    np.testing.assert_array_equal(y, again)
    # More padding changes nothing; given statistics are used.
    longer = jnp.concatenate([poisoned, jnp.full((2, 4, 3), 1e6)])
    np.testing.assert_allclose(
        jn.zoo.sequence_wise_batch_norm(longer, *params, lengths=LENGTHS, epsilon=1e-6)[0][:5], y, atol=1e-6
    )
    again, _ = jn.zoo.sequence_wise_batch_norm(poisoned, *params, lengths=LENGTHS, moments=measured, epsilon=1e-6)
    np.testing.assert_allclose(again, y, atol=1e-6)


def test_frame_wise_steps_do_not_see_each_other(rng):
    x, params = rng.standard_normal((5, 4, 3)), affine(rng, 3)
    where = (jnp.arange(5)[:, None] < LENGTHS[None])[..., None]
    y, rows = jn.zoo.frame_wise_batch_norm(array(x), *params, where=where)
    assert rows.mean.shape == (5, 3)
    assert rows.count.tolist() == [3, 3, 2, 1, 1]
    changed, _ = jn.zoo.frame_wise_batch_norm(array(x).at[3].set(9.0), *params, where=where)
    np.testing.assert_array_equal(np.delete(y, 3, 0), np.delete(changed, 3, 0))
    # A step with one real row has no spread: the bias.
    np.testing.assert_allclose(y[4, 0], params.bias, atol=1e-6)
    # One input projection of a cell: what the input site of a cell does in the loop, for all steps at once.
    for t in range(5):
        alone, _ = jn.batch_norm(array(x[t]), *params, where=where[t])
        np.testing.assert_allclose(y[t], alone, atol=1e-6)


def test_frame_wise_running_rows(rng):
    """One row a step, the last one for all later steps, at inference and in fold; pieces of a sequence."""
    x, norm = (
        rng.standard_normal((5, 4, 3)) * np.arange(1, 6)[:, None, None],
        jn.zoo.FrameWiseBatchNorm(3, momentum=0.25),
    )
    params = affine(rng, 3)
    _, rows = norm(params, array(x))
    running = norm.update_running(norm.initial_stats((3,)), rows)
    want = [x[0], x[1], x[2:].reshape(-1, 3)]
    np.testing.assert_allclose(running.mean, [0.75 * part.mean(0) for part in want], atol=1e-5)
    np.testing.assert_allclose(running.var, [0.25 + 0.75 * part.var(0) for part in want], rtol=1e-5)
    assert running.count.tolist() == [4, 4, 12]
    y, _ = norm(params, array(x), running)
    for t in range(5):
        row = jax.tree.map(lambda leaf, t=t: leaf[min(t, 2)], running)
        np.testing.assert_allclose(y[t], jn.batch_norm(array(x[t]), *params, moments=row)[0], atol=1e-6)
    piece, _ = jn.zoo.frame_wise_batch_norm(array(x[1:]), *params, moments=running, start=1)
    np.testing.assert_allclose(piece, y[1:], atol=1e-6)
    short = norm.update_running(norm.initial_stats((3,)), jax.tree.map(lambda leaf: leaf[:2], rows))
    np.testing.assert_allclose(short.mean, [*running.mean[:2], np.zeros(3)], atol=1e-6)


def test_frame_wise_over_a_named_axis(rng):
    x = array(rng.standard_normal((5, 4, 3)))
    where = (jnp.arange(5)[:, None] < LENGTHS[None])[..., None]
    want = jn.zoo.frame_wise_batch_norm(x, where=where)
    norm = jn.zoo.FrameWiseBatchNorm(5, axis_name="batch")
    got = jax.vmap(
        lambda x, w: norm(jn.Affine(None, None), x, None, w), in_axes=1, out_axes=(1, None), axis_name="batch"
    )(x, where)
    chex.assert_trees_all_close(got, want, rtol=1e-7, atol=1e-5)


# ---- classes


@pytest.mark.parametrize(("shape", "axis", "kept"), [((5, 3), None, (1,)), ((5, 3, 2, 2), (0, 2, 3), (1,))])
def test_scale_and_bias_of_each_class(rng, shape, axis, kept):
    x, labels = rng.standard_normal(shape), np.array([2, 0, 2, 1, 0])
    norm = jn.zoo.ConditionalBatchNorm(3, jn.BatchNorm(axis, epsilon=0.1, momentum=0.9))
    params = affine(rng, 3, 3)
    assert jax.tree.map(jnp.shape, norm.init((3,))) == jn.Affine((3, 3), (3, 3))
    y, measured = norm(params, array(x), jnp.asarray(labels))
    plain = oracles.batch_norm(x, axis=axis, epsilon=0.1)
    for i, label in enumerate(labels):
        want = oracles.affine(plain, params.scale[label], params.bias[label], kept, None)[i]
        np.testing.assert_allclose(y[i], want, atol=2e-5)
    running = norm.update_running(norm.initial_stats((3,)), measured)
    np.testing.assert_allclose(running.mean, 0.1 * oracles.moments(x, axis=axis)[0], atol=1e-6)
    frozen, _ = norm(params, array(x), jnp.asarray(labels), running)
    np.testing.assert_allclose(norm(params, array(x[:1]), jnp.asarray(labels[:1]), running)[0], frozen[:1], atol=1e-6)


def test_classes_under_masks_and_gradients_of_the_tables(rng):
    x, weights = rng.standard_normal((2, 4, 3, 2)).astype(np.float32)
    labels = jnp.array([[0, 1, 1], [2, 0, 0], [1, 1, 9], [0, 0, 0]])  # a class for each position; 9 is clipped to 2
    mask = jnp.asarray(rng.random((4, 3, 1)) < 0.6)

    def loss(params, x):
        y, _ = jn.zoo.conditional_batch_norm(x, labels, *params, where=mask)
        return jnp.sum(y * weights)

    params = affine(rng, 3, 2)
    clean, poisoned = (
        jax.grad(loss, argnums=(0, 1))(params, array(np.where(mask, x, value))) for value in (0.0, np.nan)
    )
    chex.assert_trees_all_equal(clean, poisoned)
    normalized = oracles.batch_norm(x, where=np.asarray(mask))
    for label in range(3):
        here = np.asarray(mask) & (np.minimum(labels, 2) == label)[..., None]
        np.testing.assert_allclose(clean[0].bias[label], (weights * here).sum((0, 1)), atol=1e-5)
        np.testing.assert_allclose(clean[0].scale[label], (weights * normalized * here).sum((0, 1)), atol=2e-5)


def test_scale_and_bias_given_by_the_caller(rng):
    x, own = rng.standard_normal((2, 4, 3))
    y, _ = jn.batch_norm(array(x), array(own))
    np.testing.assert_allclose(y, oracles.batch_norm(x) * own, atol=2e-5)


# ---- moving averages


def test_momentum_statistics_are_those_that_fold_makes(rng):
    """F2 of the specification; F1, averages for inference only, is BatchNorm with this momentum."""
    x, params = array(rng.standard_normal((6, 3)) + 2), affine(rng, 3)
    norm = jn.zoo.MomentumBatchNorm(momentum=0.9)
    running = jn.moments(array(rng.standard_normal((9, 3))))
    y, measured = norm.train(params, x, running)
    folded = norm.update_running(running, measured)
    np.testing.assert_allclose(y, norm(params, x, folded)[0], atol=1e-5)
    inference_only = jn.BatchNorm(momentum=0.9)
    plain, same = inference_only.train(params, x, running)
    assert np.abs(np.asarray(y) - np.asarray(plain)).max() > 0.1
    for a, b in zip(inference_only.update_running(running, same), folded, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("through", [True, False])
def test_momentum_gradient_with_and_without_the_batch(rng, through):
    x, cotangent = (rng.standard_normal((5, 3)) for _ in range(2))
    running = jn.moments(array(rng.standard_normal((9, 3))))

    def f(x):
        return jn.zoo.momentum_batch_norm(x, running=running, momentum=0.6, through_batch=through)[0]

    _, pull_back = jax.vjp(f, array(x))
    mean, var = 0.6 * np.asarray(running.mean) + 0.4 * x.mean(0), 0.6 * np.asarray(running.var) + 0.4 * x.var(0)
    s = np.sqrt(var + 1e-5)
    want = cotangent / s
    if through:
        x_hat = (x - mean) / s
        # d mean = 0.4 mean(dx), d var = 0.4 * 2 mean((x - mean_B) dx)
        want = want - 0.4 * want.mean(0) - 0.4 * (x - x.mean(0)) / s * (cotangent * x_hat).mean(0) / s
    np.testing.assert_allclose(pull_back(array(cotangent))[0], want, atol=2e-5)


def test_momentum_for_each_step(rng):
    """G of the specification: time-dependent averages, scale and bias shared by all steps."""
    x, params = array(rng.standard_normal((4, 5, 3))), affine(rng, 3)
    rows = jax.vmap(jn.moments)(array(rng.standard_normal((4, 7, 3))))
    y, measured = jn.zoo.momentum_batch_norm(x, *params, running=rows, axis=1)
    for t in range(4):
        row = jax.tree.map(lambda leaf, t=t: leaf[t], rows)
        want, own = jn.zoo.momentum_batch_norm(x[t], *params, running=row)
        np.testing.assert_allclose(y[t], want, atol=1e-6)
        np.testing.assert_allclose(measured.mean[t], own.mean, atol=1e-6)


def test_errors():
    xs = jnp.ones((5, 4, 3))
    # Without the run-time check of annotations the message is our own.
    bare = jn.zoo.sequence_wise_batch_norm.__wrapped__
    with pytest.raises(
        ValueError, match=r"sequence_wise_batch_norm: lengths must have shape \(\*B\) = \(4,\), got \(5,"
    ):
        bare(xs, lengths=jnp.ones(5, int))
    with pytest.raises(ValueError, match=r"FrameWiseBatchNorm: max_steps must be a positive integer, got 0"):
        jn.zoo.FrameWiseBatchNorm(0)
    with pytest.raises(ValueError, match=r"ConditionalBatchNorm: num_classes must be a positive integer, got 0"):
        jn.zoo.ConditionalBatchNorm(0)
    with pytest.raises(ValueError, match=r"labels must have shape the first axes of x = \(5,\), got \(4,\)"):
        jn.zoo.conditional_batch_norm(xs, jnp.zeros(4, int))
    with pytest.raises(ValueError, match=r"labels with 3 axes reach features of x"):
        jn.zoo.conditional_batch_norm(xs, jnp.zeros((5, 4, 3), int))
    with pytest.raises(ValueError, match=r"scale\[0\] must have shape \(features\) = \(3,\), got \(2,\)"):
        jn.zoo.conditional_batch_norm(xs, jnp.zeros(5, int), jnp.ones((9, 2)))
    with pytest.raises(ValueError, match=r"MomentumBatchNorm: stats is None"):
        jn.zoo.MomentumBatchNorm()(jn.Affine(None, None), xs)
    with pytest.raises(ValueError, match=r"running.mean must broadcast"):
        jn.zoo.momentum_batch_norm(xs, running=jn.moments(jnp.ones((2, 4))))
    for norm in (jn.zoo.MomentumBatchNorm(), jn.zoo.FrameWiseBatchNorm(2)):
        with pytest.raises(ValueError, match=r"cannot be used inside a cell"):
            jn.LSTM(3, norm=norm)
