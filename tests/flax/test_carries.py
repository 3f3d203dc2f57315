"""The carries that the modules of Flax return and make are those of Flax's own, without a carry that went in."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx

B, T, D, H = 2, 3, 3, 4
KEY = jax.random.key(0)
ONES = jax.nn.initializers.ones


def both(cells, xs, **options):
    """The carry and the outputs of linen and of NNX, without a carry."""
    yield jl.RNN(cells, return_carry=True, **options).init_with_output({"params": KEY, "dropout": KEY}, xs)[0]
    yield jx.RNN(cells, D, return_carry=True, rngs=nnx.Rngs(0), **options)(xs)


@pytest.mark.parametrize("cell", [jn.ln_lstm(H), jn.gru(H), jn.Zoneout(jn.elman(H), rate=0.1)], ids=repr)
def test_the_last_carry_has_the_form_of_the_first(cell, rng):
    """A scan, a ``where`` or a comparison of both needs that."""
    xs = jnp.asarray(rng.standard_normal((B, T, D)), jnp.float32)
    first = jl.RNNCell(cell).initialize_carry(KEY, (B, D))
    for carry, ys in both(cell, xs):
        assert jax.tree.structure(carry) == jax.tree.structure(first)
        last = carry[-1] if isinstance(carry, tuple) else carry
        if not isinstance(cell, jn.Zoneout):
            np.testing.assert_allclose(last, ys[:, -1], atol=1e-6)
        assert type(carry) is tuple or isinstance(carry, jax.Array)


def test_each_cell_of_several_has_it():
    cells = (jn.gru(H), jn.Directions(jn.lstm(H), jn.gru(H)))
    for (low, (forward, backward)), ys in both(cells, jnp.ones((B, T, D))):
        assert ys.shape == (B, T, 2 * H)
        assert type(forward) is tuple
        assert low.shape == backward.shape == forward[0].shape == (B, H)
    states = (jnp.ones((B, H)), None)
    rnn = jx.RNN((jn.gru(H), jn.lstm(H)), D, return_carry=True, rngs=nnx.Rngs(0))
    (low, high), _ = rnn(jnp.ones((B, T, D)), initial_carry=states)
    assert low.shape == (B, H)
    assert type(high) is tuple


def test_a_carry_of_the_cell_comes_back_as_one_and_a_count_stays():
    rnn = jx.RNN(jn.gru(H), D, return_carry=True, rngs=nnx.Rngs(0))
    assert type(rnn(jnp.ones((B, T, D)), initial_carry=jn.gru(H).initial_carry((B,)))[0]) is jn.GRUCarry
    counted = jx.RNN(jn.bn_lstm(H, max_steps=2), D, return_carry=True, rngs=nnx.Rngs(0))(jnp.ones((B, T, D)))[0]
    assert isinstance(counted, jn.CountedCarry)
    np.testing.assert_array_equal(counted.step, [T] * B)


@pytest.mark.parametrize("make", [jn.lstm, jn.gru])
def test_an_initializer_of_the_constructor_draws_the_carry(make, rng):
    """As in the cells of Flax, also in Flax's drivers; another key gives other numbers, a count begins at zero."""
    xs = jnp.asarray(rng.standard_normal((B, T, D)), jnp.float32)
    linen, own = (
        jl.RNNCell(make(H), carry_init=ONES),
        jx.RNNCell(make(H), D, carry_init=ONES, rngs=nnx.Rngs(0)),
    )
    for carry in (linen.initialize_carry(KEY, (B, D)), own.initialize_carry((B, D), nnx.Rngs(0))):
        for entry in jax.tree.leaves(carry):
            np.testing.assert_array_equal(entry, np.ones((B, H)))
    start = own.initialize_carry((B, D), KEY)
    np.testing.assert_allclose(nnx.RNN(own)(xs), nnx.RNN(own)(xs, initial_carry=start), atol=1e-6)
    ys, variables = nn.RNN(linen).init_with_output(KEY, xs)
    np.testing.assert_allclose(ys, nn.RNN(linen).apply(variables, xs, initial_carry=start), atol=1e-6)
    assert float(jnp.abs(ys - nn.RNN(jl.RNNCell(make(H))).apply(variables, xs)).max()) > 1e-2
    zeros = own.initialize_carry((B, D), KEY, jax.nn.initializers.zeros)
    assert not any(map(np.any, jax.tree.leaves(zeros)))


def test_drawn_entries_have_keys_of_their_own_and_need_one():
    normal = jl.RNNCell(jn.lstm(H), carry_init=jax.nn.initializers.normal())
    c, h = normal.initialize_carry(KEY, (B, D))
    assert float(jnp.abs(c - h).min()) > 0
    counted = jl.RNNCell(jn.bn_lstm(H, max_steps=2), carry_init=ONES).initialize_carry(KEY, (B, D))
    np.testing.assert_array_equal(counted.step, [0] * B)
    np.testing.assert_array_equal(counted.h, np.ones((B, H)))
    with pytest.raises(ValueError, match=r"RNNCell\.initialize_carry: carry_init needs randomness, but there is none"):
        normal.initialize_carry(None, (B, D))


def test_streams_of_the_constructor_draw_masks():
    """An RNN keeps a copy of ``dropout``, alone and for layers; each call draws anew, and evaluation draws nothing."""
    dropped = jn.VariationalDropout(jn.lstm(H), rate=0.5, input_rate=0.5)
    xs = jnp.ones((B, T, D))
    for cells in (dropped, (jn.gru(D), jn.Directions(dropped, dropped))):
        rnn = jx.RNN(cells, D, rngs=nnx.Rngs(0, dropout=1))
        one, two = rnn(xs), rnn(xs)
        assert float(jnp.abs(one - two).max()) > 1e-3
        again = jx.RNN(cells, D, rngs=nnx.Rngs(0, dropout=1))
        np.testing.assert_array_equal(again(xs), one)
        np.testing.assert_array_equal(nnx.jit(lambda rnn, xs: rnn(xs))(again, xs), two)
        np.testing.assert_array_equal(rnn(xs, rngs=KEY), again(xs, rngs=KEY))  # those of the call come first
        rnn.eval()
        before = rnn.rngs.count[...]
        np.testing.assert_array_equal(rnn(xs), rnn(xs))
        np.testing.assert_array_equal(rnn.rngs.count[...], before)
    assert not jax.tree.leaves(nnx.state(jx.RNN(jn.lstm(H), D, rngs=nnx.Rngs(0, dropout=1)), nnx.RngState))
