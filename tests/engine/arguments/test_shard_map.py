"""Cells on several devices: the batch is spread over a mesh, the numbers are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxnorm as jn
from tests import cases

pytestmark = pytest.mark.long

DEVICES, STEPS, BATCH, HIDDEN = 2, 4, 4, 3


@pytest.mark.parametrize(
    ("make", "resets"),
    [
        (lambda axis: jn.ln_gru(HIDDEN, learn_carry=True), True),
        (lambda axis: jn.bn_lstm(HIDDEN, max_steps=3, axis_name=axis), False),
        (lambda axis: jn.bn_lstm(HIDDEN, max_steps=3, axis_name=axis), True),
    ],
    ids=["ln_gru", "bn_lstm", "bn_lstm_of_mixed_ages"],
)
def test_a_batch_spread_over_devices(make, resets, rng):
    """Values, the moments of the whole batch, and gradients of weights that every device has."""
    mesh = jax.make_mesh((DEVICES,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    params = cases.random_cell_params(make(None), rng)
    xs = jnp.asarray(rng.standard_normal((STEPS, BATCH, cases.IN_FEATURES)), jnp.float32)
    lengths = jnp.array([4, 2, 0, 3])
    reset = jnp.asarray(rng.random((STEPS, BATCH)) < 0.4) if resets else None
    weights = jnp.asarray(rng.standard_normal((STEPS, BATCH, HIDDEN)), jnp.float32)

    def run(cell, params, xs, lengths, reset):
        out = jn.unroll(cell, params, xs, lengths=lengths, reset=reset)
        return out.outputs, out.carry, out.moments

    def spread(params, xs):
        by_batch = P(None, "data")
        specs = (P(), by_batch, P("data"), None if reset is None else by_batch)
        member = lambda *args: run(make("data"), *args)  # noqa: E731
        return jax.shard_map(member, mesh=mesh, in_specs=specs, out_specs=(by_batch, P("data"), P()))(
            params, xs, lengths, reset
        )

    def together(params, xs):
        return run(make(None), params, xs, lengths, reset)

    def measure(outputs):
        return lambda params, xs: (jnp.sum(weights * outputs(params, xs)[0]), outputs(params, xs))

    (_, got), got_gradients = jax.jit(jax.value_and_grad(measure(spread), (0, 1), has_aux=True))(params, xs)
    (_, expected), gradients = jax.jit(jax.value_and_grad(measure(together), (0, 1), has_aux=True))(params, xs)
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(compare, (got, got_gradients), (expected, gradients))
