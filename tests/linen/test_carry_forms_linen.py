"""Carries in Flax's own forms go into the modules of linen and come back in the form they came."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
import jaxnorm.linen as jl

B, H = 2, 4
FORMS = {
    "tuple": (jn.lstm(H), lambda c, h: (c, h)),
    "dict": (jn.lstm(H), lambda c, h: {"hidden": h, "cell": c}),
    "array": (jn.gru(H), lambda c, h: h),
    "half precision": (jn.gru(H), lambda c, h: h.astype(jnp.bfloat16)),
    "counted": (
        jn.LSTM(H, norm=jn.BatchNorm(), max_steps=3),
        lambda c, h: jn.CountedCarry((c, h), jnp.zeros(B, jnp.int32)),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_carry_comes_back_in_its_form(name, rng):
    """In our RNN, and through Flax's own scan, with the values of ``unroll``."""
    cell, form = FORMS[name]
    carry = form(*jnp.asarray(rng.standard_normal((2, B, H)), jnp.float32))
    xs = jnp.asarray(rng.standard_normal((B, 3, 3)), jnp.float32)
    own = jl.RNN(cell, return_carry=True, use_running_average=True)
    step = jl.RNNCell(cell, use_running_average=True)
    stock = nn.RNN(step, return_carry=True, variable_broadcast=("params", "batch_stats"))
    variables = own.init(jax.random.key(0), xs)
    params = variables["params"]
    after, outputs = own.apply(variables, xs, initial_carry=carry)
    assert jax.tree.structure(after) == jax.tree.structure(carry)
    inside = {kind: {"cell": tree} for kind, tree in variables.items()}
    after_stock, outputs_stock = stock.apply(inside, xs, initial_carry=carry)
    assert jax.tree.structure(after_stock) == jax.tree.structure(carry)
    assert [a.dtype for a in jax.tree.leaves(after_stock)] == [a.dtype for a in jax.tree.leaves(carry)]
    close = {"rtol": 1e-5, "atol": 1e-2 if name == "half precision" else 1e-6}
    np.testing.assert_allclose(outputs_stock, outputs, **close)
    for got, expected in zip(jax.tree.leaves(after_stock), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(got.astype(jnp.float32), expected, **close)
    assert np.abs(np.asarray(params["kernel"])).max() > 0


def test_a_counted_cell_of_single_steps_wants_the_count():
    cell = jn.bn_lstm(H, max_steps=3)
    z = jnp.zeros((B, H))
    module = jl.RNNCell(cell, use_running_average=True)
    with pytest.raises(TypeError, match=r"RNNCell: carry must say how many steps .* CountedCarry\(carry, step\)"):
        module.init(jax.random.key(0), (z, z), jnp.ones((B, 3)))
    variables = jl.RNN(cell, use_running_average=True).init(jax.random.key(0), jnp.ones((B, 2, 3)))
    carry, _ = jl.RNN(cell, use_running_average=True).apply(
        variables, jnp.ones((B, 2, 3)), initial_carry=(z, z), return_carry=True
    )
    np.testing.assert_array_equal(carry.step, [2, 2])
