"""A skeleton to copy to ``tests/zoo/cells/<family>/test_<name>.py``: only what is peculiar to the item.

Masks, lengths, resets, splits, directions, gradients, dtypes and the rest are the contract of all cells; the row in
``tests/cell_cases.py`` brings them.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from cell import Leaky  # in the project: import jaxnorm as jn

import jaxnorm as jn
from tests import cases


def oracle(params, xs, leak, epsilon):
    """The equation in NumPy and float64, with a loop over steps."""
    p = [np.asarray(leaf, np.float64) for leaf in (params.kernel, params.recurrent, params.bias, *params.norm.cell)]
    kernel, recurrent, bias, gain, shift = p
    h, hs = np.zeros((xs.shape[1], recurrent.shape[0])), []
    for x in np.asarray(xs, np.float64):
        a = x @ kernel + h @ recurrent
        a_hat = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + epsilon)
        h = (1 - leak) * h + leak * np.tanh(gain * a_hat + shift + bias)
        hs.append(h)
    return np.stack(hs)


def test_leaky_cell_is_the_equation_of_the_paper(rng):
    cell = Leaky(4, norm=jn.LayerNorm(), leak=0.3)
    params = cases.random_cell_params(cell, rng)  # random in every slot: zero biases hide missing terms
    xs = cases.random_inputs(rng)
    outputs = jn.unroll(cell, params, xs).outputs
    np.testing.assert_allclose(outputs, oracle(params, xs, 0.3, 1e-5), rtol=2e-5, atol=2e-6)


def test_without_leak_the_state_stays(rng):
    cell = Leaky(4, leak=0.0)
    outputs = jn.unroll(cell, cases.random_cell_params(cell, rng), cases.random_inputs(rng)).outputs
    assert not jnp.any(outputs)


def test_bad_leak_is_refused():
    with pytest.raises(ValueError, match=r"Leaky: leak must be a number in \[0.0, 1.0\], got 1.5"):
        Leaky(4, leak=1.5)
