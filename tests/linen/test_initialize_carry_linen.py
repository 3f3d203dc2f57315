"""``RNNCell.initialize_carry`` makes carries as cells of Flax do, so that programs for these compute with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm as jn
import jaxnorm.linen as jl

B, T, D, H = 3, 4, 2, 5
KEY = jax.random.key(0)


class ResetGRU(nn.Module):
    """A GRU that begins anew where ``done`` says so, written for Flax: its carry is an array."""

    cell: nn.RNNCellBase

    def __call__(self, xs, done):
        carry, outputs = self.cell.initialize_carry(KEY, xs[0].shape), []
        for x, d in zip(xs, done, strict=True):
            carry = jnp.where(d[:, None], self.cell.initialize_carry(KEY, x.shape), carry)
            carry, y = self.cell(carry, x)
            np.testing.assert_array_equal(y, carry)
            outputs.append(y)
        return jnp.stack(outputs)


def test_programs_for_flax_compute_with_the_carry_of_a_gru(rng):
    xs, done = jnp.asarray(rng.standard_normal((T, B, D)), jnp.float32), jnp.asarray(rng.random((T, B)) < 0.5)
    model = ResetGRU(jl.RNNCell(jn.ln_gru(H)))
    variables = model.init(KEY, xs, done)
    expected = jl.RNN(jn.ln_gru(H), time_major=True).apply({"params": variables["params"]["cell"]}, xs, reset=done)
    np.testing.assert_allclose(model.apply(variables, xs, done), expected, atol=1e-6)


def test_each_cell_has_the_form_of_flax():
    shape = (B, D)
    assert type(jl.RNNCell(jn.lstm(H)).initialize_carry(KEY, shape)) is tuple
    assert jl.RNNCell(jn.Zoneout(jn.gru(H), rate=0.1)).initialize_carry(KEY, shape).shape == (B, H)
    counted = jl.RNNCell(jn.bn_lstm(H, max_steps=2)).initialize_carry(KEY, shape)
    assert isinstance(counted, jn.CountedCarry)
    learned = jl.RNNCell(jn.gru(H, learn_carry=True))
    variables = learned.init(KEY, learned.initialize_carry(KEY, shape), jnp.ones(shape))
    variables["params"]["carry"]["h"] = jnp.full(H, 2.0)
    begun = learned.bind(variables).initialize_carry(KEY, shape)
    np.testing.assert_array_equal(begun, np.full((B, H), 2.0))


def test_the_carry_of_a_step_of_ones_own_stays_as_it_is():
    def step(params, carry, x):
        return {"h": carry["h"] + params["w"] * x}, carry["h"]

    cell = jn.FunctionCell(step, {"h": jnp.zeros(D)}, params_init=lambda key, n: {"w": jnp.ones(n)})
    assert set(jl.RNNCell(cell).initialize_carry(KEY, (B, D))) == {"h"}
