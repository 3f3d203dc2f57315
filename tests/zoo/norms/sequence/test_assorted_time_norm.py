"""What is peculiar to assorted-time normalization: pieces and the whole, gradients into the past, single examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from tests.norms import oracles


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_any_window_against_the_equation_in_double_precision(steps, batch, rng, x64):
    xs = rng.standard_normal((6, *batch, 4)) * 2 + 1
    mask = rng.random(xs.shape) < 0.7
    mask[2] = False
    norm = jn.zoo.AssortedTimeNorm(steps, epsilon=0.1)
    params = jn.Affine(*jnp.asarray(rng.standard_normal((2, 4))))
    ys = jax.jit(lambda xs: [norm(params, xs, None, where)[0] for where in (None, jnp.asarray(mask))])(xs)
    for where, y in zip((None, mask), ys, strict=True):
        np.testing.assert_allclose(y, oracles.of_spec(norm, params, xs, where), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sizes", [(1,) * 7, (3, 4), (5, 1, 1), (0, 7), (6, 0, 1)])
def test_pieces_equal_the_whole(sizes, rng):
    """Step by step, in pieces longer and shorter than the memory, and empty ones: values and gradients."""
    norm = jn.zoo.AssortedTimeNorm(4)
    params = jn.Affine(*(jnp.asarray(rng.standard_normal(3), jnp.float32) for _ in range(2)))
    xs = jnp.asarray(rng.standard_normal((7, 2, 3)), jnp.float32)
    mask = jnp.asarray(rng.random((7, 2, 1)) < 0.8)

    def streamed(xs):
        memory, pieces = None, []
        for start, size in zip(np.cumsum((0, *sizes)), sizes, strict=False):
            piece, memory = norm.stream(params, xs[start : start + size], memory, mask[start : start + size])
            pieces.append(piece)
        return jnp.concatenate(pieces)

    def both(xs):
        return [
            jax.value_and_grad(lambda xs, f=f: (jnp.sum(jnp.sin(f(xs))), f(xs)), has_aux=True)(xs)
            for f in (streamed, lambda xs: norm(params, xs, None, mask)[0])
        ]

    ((_, got), got_slope), ((_, want), want_slope) = jax.jit(both)(xs)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(got_slope, want_slope, atol=1e-5)


def test_one_step_is_layer_normalization(rng):
    xs = jnp.asarray(rng.standard_normal((4, 2, 5)), jnp.float32)
    ys, memory = jn.zoo.assorted_time_norm(xs, steps=1)
    np.testing.assert_allclose(ys, jn.layer_norm(xs), atol=1e-6)
    assert memory.mean.shape == (0, 2)


def test_gradient_flows_into_the_window_and_no_further(rng):
    xs = jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)
    slope = jax.grad(lambda xs: jnp.sum(jnp.sin(jn.zoo.assorted_time_norm(xs, steps=3)[0][4])))(xs)
    reached = np.abs(np.asarray(slope)).max(1) > 1e-5
    np.testing.assert_array_equal(reached, [False, False, True, True, True, False])


def test_a_single_example_and_data_far_from_zero(rng):
    # The published code squeezes, which breaks a batch of one; means near 1e4 must keep their digits.
    xs = (1e4 + rng.standard_normal((5, 1, 6))).astype(np.float32)
    ys, _ = jn.zoo.assorted_time_norm(jnp.asarray(xs), steps=3)
    want = oracles.of_spec(jn.zoo.AssortedTimeNorm(3), jn.Affine(None, None), xs)
    np.testing.assert_allclose(ys, want, atol=2e-3)


def test_errors():
    with pytest.raises(ValueError, match=r"assorted_time_norm: xs must have a time axis first .*\(3,\)"):
        jn.zoo.assorted_time_norm.__wrapped__(jnp.ones(3))
    _, memory = jn.zoo.assorted_time_norm(jnp.ones((4, 2, 3)), steps=3)
    with pytest.raises(ValueError, match=r"memory.mean must have shape \(k - 1, \*B\) = \(4, 2\), got \(2, 2\)"):
        jn.zoo.assorted_time_norm(jnp.ones((4, 2, 3)), steps=5, memory=memory)
    with pytest.raises(ValueError, match=r"LSTM: norm.input: AssortedTimeNorm\(.* one step at a time"):
        jn.LSTM(4, norm=jn.zoo.AssortedTimeNorm())
