"""Gradients of long sequences: sums over time lose nothing, in any method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn

STEPS = 4096


@pytest.mark.parametrize("options", [{"method": "scan"}, {}], ids=["scan", "chunked"])
def test_gradients_in_bfloat16_add_up_in_float32(options):
    """The sum of as many equal terms: added up in bfloat16 it stops at 256 of them."""
    cell = jn.Elman(1, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 1))
    params = params._replace(kernel=params.kernel + 1)

    def loss(params):  # h is tanh(1) at each step, and so is the gradient of the recurrent weight, nearly
        return jnp.sum(
            jn.unroll(cell, params, jnp.ones((STEPS, 1, 1), jnp.bfloat16), **options).outputs, dtype="float32"
        )

    got = jax.jit(jax.grad(loss))(params).recurrent
    h = np.tanh(1.0)
    np.testing.assert_allclose(np.float64(got).item(), (STEPS - 1) * h * (1 - h**2), rtol=0.02)


def test_the_message_of_forward_mode_says_what_may_differ():
    cell = jn.lstm(2)
    params, xs = cell.init(jax.random.key(0), 2), jnp.ones((3, 1, 2))
    with pytest.raises(TypeError, match=r"values and gradients differ by rounding alone, which long sequences"):
        jax.jvp(lambda xs: jn.unroll(cell, params, xs).outputs, (xs,), (xs,))
