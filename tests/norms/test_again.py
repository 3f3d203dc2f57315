"""Moments that an earlier call measured: values and derivatives as if they were measured again, fewer collectives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn

NORM = jn.BatchNorm(axis_name="devices")


def case(rng, masked):
    x = jnp.asarray(rng.normal(1.0, 2.0, (3, 5, 4)))
    where = jnp.asarray(rng.random((3, 5)) < 0.6) if masked else None
    params = jn.Affine(*map(jnp.asarray, rng.normal(size=(2, 4))))
    weigh = [jnp.asarray(rng.normal(size=shape)) for shape in (x.shape, (4,), (4,))]
    return x, where, params, weigh


def loss(again, x, where, params, weigh):
    """A sum over outputs and moments; ``again`` holds the moments of an earlier call, or None."""

    def member(x, where, weight):
        mask = None if where is None else where[:, None]
        if again is None:
            y, m = NORM(params, x, None, mask)
        else:
            y, m = NORM.normalize_again(params, x, again, mask)
        return jnp.sum(y * weight) + (jnp.sum(m.mean * weigh[1]) + jnp.sum(jnp.sin(m.var) * weigh[2])) / len(x)

    return jnp.sum(jax.vmap(member, axis_name="devices")(x, where, weigh[0]))


@pytest.mark.parametrize("masked", [False, True])
def test_values_and_derivatives_are_those_of_measuring(rng, x64, masked):
    x, where, params, weigh = case(rng, masked)
    real = jnp.ones(x.shape[:2], bool) if where is None else where
    again = jn.moments(x, axis=(0, 1), where=real[..., None])
    for kind in (jax.value_and_grad(loss, (1, 3)), jax.jit(jax.value_and_grad(loss, (1, 3)))):
        want, got = (kind(m, x, where, params, weigh) for m in (None, again))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), got, want)
    tangent = jnp.asarray(rng.normal(size=x.shape))
    want, got = (jax.jvp(lambda x, m=m: loss(m, x, where, params, weigh), (x,), (tangent,)) for m in (None, again))
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_nothing_passes_through_the_given_moments(rng, x64):
    x, where, params, weigh = case(rng, False)
    again = jn.moments(x, axis=(0, 1))
    d_mean, d_var, _ = jax.grad(loss)(again, x, where, params, weigh)
    assert not jnp.any(d_mean)
    assert not jnp.any(d_var)


def test_what_is_masked_may_hold_anything(rng, x64):
    x, where, params, weigh = case(rng, True)
    again = jn.moments(x, axis=(0, 1), where=where[..., None])
    clean = jax.grad(loss, 1)(again, jnp.where(where[..., None], x, 0.0), where, params, weigh)
    dirty = jax.grad(loss, 1)(again, jnp.where(where[..., None], x, jnp.nan), where, params, weigh)
    np.testing.assert_array_equal(dirty, clean)


def test_only_norms_over_a_named_axis_say_that_they_reuse():
    assert isinstance(NORM, jn.norms.base.ReusesMoments)
    assert NORM.reuses_moments
    assert not jn.BatchNorm().reuses_moments
