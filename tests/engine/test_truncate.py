"""Truncated back-propagation and the initial carry: one that is learned gets its gradient, one handed in gets none."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from tests import cases
from tests.tools.marks import mostly_heavy

STEPS, BATCH, HIDDEN, EVERY = 7, 3, 3, 2
LEARNED = {
    "ln_lstm": jn.ln_lstm(HIDDEN, learn_carry=True),
    "gru": jn.gru(HIDDEN, learn_carry=True),
    "bn_lstm": jn.bn_lstm(HIDDEN, max_steps=3, learn_carry=True),
    "zoneout": jn.deterministic(jn.Zoneout(jn.ln_gru(HIDDEN, learn_carry=True), rate=0.3)),
}
close = partial(chex.assert_trees_all_close, rtol=1e-9, atol=1e-9)
METHODS = {"scan": {"method": "scan"}, "chunked": {"chunk": 3}, "few carries": {"chunk": 3, "save": "chunks"}}


def loss(cell, params, xs, **options):
    return jnp.sum(jnp.sin(3.0 * jn.unroll(cell, params, xs, **options).outputs))


def carry_gradient(cell, params, xs, **options):
    return jax.jit(jax.grad(lambda params: loss(cell, params, xs, **options)))(params).carry


def drawn(cell, rng):
    return cases.random_cell_params(cell, rng, dtype=jnp.float64), cases.random_inputs(
        rng, STEPS, (BATCH,), jnp.float64
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", mostly_heavy([False, True]))
@pytest.mark.parametrize("name", LEARNED)
def test_an_initial_carry_gets_the_gradient_of_the_first_stretch(name, reverse, method, x64, rng):
    if method != "scan" and name != "ln_lstm":
        pytest.skip("the methods are compared on one cell")
    cell = LEARNED[name]
    params, xs = drawn(cell, rng)
    options = {"reverse": reverse, **METHODS[method]}
    first = xs[-EVERY:] if reverse else xs[:EVERY]
    expected = carry_gradient(cell, params, first, reverse=reverse, method="scan")
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected))
    close(carry_gradient(cell, params, xs, truncate=EVERY, **options), expected)
    whole = carry_gradient(cell, params, xs, **options)
    close(carry_gradient(cell, params, xs, truncate=STEPS, **options), whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_carry_that_was_handed_in_gets_none(method, x64, rng):
    cell = LEARNED["ln_lstm"]
    params, xs = drawn(cell, rng)
    carry = cell.initial_carry((BATCH,), params=params)
    gradient = jax.grad(lambda carry: loss(cell, params, xs, carry=carry, truncate=EVERY, **METHODS[method]))(carry)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert np.any(jax.grad(lambda carry: loss(cell, params, xs, carry=carry, **METHODS[method]))(carry).h)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", [False, True])
def test_padding_before_the_first_step_cuts_nothing(method, reverse, x64, rng):
    """The carry waits through more masked steps than a stretch has: it is the initial one still."""
    cell = LEARNED["ln_lstm"]
    params, xs = drawn(cell, rng)
    waits = jnp.array([3, 0, 5])  # the places of the cuts are those of the call: 2, 4, 6
    where = jnp.arange(STEPS)[:, None] >= waits[None]
    if reverse:
        xs, where = xs[::-1], where[::-1]
    got = carry_gradient(cell, params, xs, where=where, truncate=EVERY, reverse=reverse, **METHODS[method])
    parts = [
        carry_gradient(cell, params, (xs[::-1] if reverse else xs)[wait : (wait // EVERY + 1) * EVERY, k : k + 1])
        for k, wait in enumerate([3, 0, 5])
    ]
    close(got, jax.tree.map(lambda *leaves: sum(leaves), *parts))


@pytest.mark.parametrize("method", METHODS)
def test_resets_bring_the_initial_carry_its_gradient(method, x64, rng):
    """Also after a carry that was handed in, at a masked step, and while the example waits there."""
    cell = LEARNED["ln_lstm"]
    params, xs = drawn(cell, rng)
    carry = jax.tree.map(lambda leaf: leaf + 0.3, cell.initial_carry((BATCH,), params=params))
    where = jnp.ones((STEPS, BATCH), bool).at[1:5, 0].set(False)
    reset = jnp.zeros((STEPS, BATCH), bool).at[1, 0].set(True).at[4, 1].set(True).at[6, 2].set(True)
    options = {"carry": carry, "where": where, "reset": reset, "truncate": EVERY, **METHODS[method]}
    stretches = ((0, 5, 6), (1, 4, 6), (2, 6, 7))  # example, its first step after the reset, the next cut
    parts = [carry_gradient(cell, params, xs[low:high, k : k + 1]) for k, low, high in stretches]
    close(carry_gradient(cell, params, xs, **options), jax.tree.map(lambda *leaves: sum(leaves), *parts))


def test_stacks_and_directions(x64, rng):
    cell = LEARNED["gru"]
    one, other = (cases.random_cell_params(cell, rng, dtype=jnp.float64) for _ in range(2))
    above = cases.random_cell_params(cell, rng, dtype=jnp.float64)
    above = above._replace(kernel=jnp.asarray(rng.standard_normal((HIDDEN, 3, HIDDEN))))
    xs = cases.random_inputs(rng, STEPS, (BATCH,), jnp.float64)
    for run, params in ((jn.stack, (one, above)), (jn.bidirectional, (one, other))):

        def total(params, truncate, run=run):
            return jnp.sum(jnp.sin(run((cell, cell), params, xs, truncate=truncate).outputs))

        cut, whole = (jax.grad(total)(params, truncate) for truncate in (STEPS, None))
        close([part.carry for part in cut], [part.carry for part in whole])


@pytest.mark.parametrize("wrapped", [False, True])
def test_modules_of_linen_hand_on_no_carry_of_their_own(wrapped, rng):
    """Neither for the noise on it, which has a key of its own beside that of the masks."""
    cell = jn.ln_lstm(HIDDEN, learn_carry=True, initial_noise=0.1)
    cell = jn.Zoneout(cell, rate=0.2) if wrapped else cell
    module = jl.RNN(cell, engine={"truncate": EVERY})
    xs = cases.random_inputs(rng, BATCH, (STEPS,))
    rngs = {"dropout": jax.random.key(1)} if wrapped else {}
    options = {"init_key": jax.random.key(2), "rngs": rngs}
    start = module.init({"params": jax.random.key(0), **rngs}, xs, init_key=jax.random.key(2))

    def total(variables, xs):
        return jnp.sum(jnp.sin(module.apply(variables, xs, **options)))

    cut = jax.grad(total)(start, xs)["params"]["carry"]
    assert np.abs(cut["h"]).max() > 1e-3


def test_modules_of_nnx(rng):
    module = jx.RNN(LEARNED["ln_lstm"], cases.IN_FEATURES, engine={"truncate": EVERY}, rngs=nnx.Rngs(0))
    xs = cases.random_inputs(rng, BATCH, (STEPS,))
    gradient = nnx.grad(lambda module: jnp.sum(jnp.sin(module(xs))))(module)
    short = nnx.grad(lambda module: jnp.sum(jnp.sin(module(xs[:, :EVERY]))))(module)
    assert np.abs(short.carry.h[...]).max() > 1e-3
    np.testing.assert_allclose(gradient.carry.h[...], short.carry.h[...], rtol=1e-5, atol=1e-6)
