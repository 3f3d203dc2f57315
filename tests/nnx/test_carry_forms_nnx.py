"""Carries in Flax's own forms go into the modules of NNX and come back in the form they came."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.nnx as jx

B, H = 2, 4
FORMS = {
    "tuple": (jn.lstm(H), lambda c, h: (c, h)),
    "list": (jn.lstm(H), lambda c, h: [c, h]),
    "array": (jn.gru(H), lambda c, h: h),
    "Elman": (jn.elman(H), lambda c, h: h),
    "half precision": (jn.lstm(H), lambda c, h: (c.astype(jnp.bfloat16), h)),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_carry_comes_back_in_its_form(name, rng):
    cell, form = FORMS[name]
    carry = form(*jnp.asarray(rng.standard_normal((2, B, H)), jnp.float32))
    xs = jnp.asarray(rng.standard_normal((B, 3, 3)), jnp.float32)
    own = jx.RNN(cell, 3, return_carry=True, rngs=nnx.Rngs(0))
    stock = nnx.RNN(jx.RNNCell(cell, 3, rngs=nnx.Rngs(0)), return_carry=True)
    after, outputs = own(xs, initial_carry=carry)
    assert jax.tree.structure(after) == jax.tree.structure(carry)
    after_stock, outputs_stock = stock(xs, initial_carry=carry)
    assert jax.tree.structure(after_stock) == jax.tree.structure(carry)
    assert [a.dtype for a in jax.tree.leaves(after_stock)] == [a.dtype for a in jax.tree.leaves(carry)]
    close = {"rtol": 1e-5, "atol": 1e-2 if name == "half precision" else 1e-6}
    np.testing.assert_allclose(outputs_stock, outputs, **close)
    for got, expected in zip(jax.tree.leaves(after_stock), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), expected, **close)


@pytest.mark.parametrize("kind", [nnx.LSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_the_carry_of_a_cell_of_flax_goes_into_ours(kind, rng):
    cell = {nnx.LSTMCell: jn.lstm, nnx.GRUCell: jn.gru, nnx.SimpleCell: jn.elman}[kind](H)
    theirs = kind(3, H, rngs=nnx.Rngs(0)).initialize_carry((B, 3), nnx.Rngs(0))
    ours = jx.RNNCell(cell, 3, rngs=nnx.Rngs(0))
    after, _ = ours(theirs, jnp.ones((B, 3)))
    assert jax.tree.structure(after) == jax.tree.structure(theirs)


def test_a_counted_cell_of_single_steps_wants_the_count():
    z = jnp.zeros((B, H))
    cell = jx.RNNCell(jn.bn_lstm(H, max_steps=3), 3, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"RNNCell: carry must say how many steps .* CountedCarry\(carry, step\)"):
        cell((z, z), jnp.ones((B, 3)))
