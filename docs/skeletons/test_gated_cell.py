"""A skeleton to copy to ``tests/zoo/cells/<family>/test_<name>.py``: only what is peculiar to the item.

Masks, lengths, resets, splits, directions, gradients, dtypes and the rest are the contract of all cells; the row in
``tests/cell_cases.py`` brings them.
"""

import jax
import numpy as np
import pytest
from gated_cell import UpdateGated  # in the project: import jaxnorm as jn

import jaxnorm as jn
from tests import cases

HIDDEN = 4


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def by_gate(vector):
    """Vectors (..., 2H) hold gate after gate."""
    return vector.reshape(*vector.shape[:-1], 2, HIDDEN)


def layer_norm(a, scale, bias, epsilon):
    """Normalizes each gate alone."""
    a = by_gate(a)
    a = (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + epsilon)
    return by_gate(scale) * a + by_gate(bias)


def oracle(params, xs, epsilon):
    """The equation in NumPy and float64, with a loop over steps."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    kernel, recurrent = (leaf.reshape(len(leaf), 2 * HIDDEN) for leaf in (p.kernel, p.recurrent))
    h, hs = np.zeros((xs.shape[1], HIDDEN)), []
    for x in np.asarray(xs, np.float64):
        a = layer_norm(x @ kernel, *p.norm.input, epsilon) + layer_norm(h @ recurrent, *p.norm.recurrent, epsilon)
        z, n = np.moveaxis(a + by_gate(p.bias), 1, 0)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * np.tanh(n)
        hs.append(h)
    return np.stack(hs)


def test_update_gated_cell_is_the_equation_of_the_paper(rng):
    cell = UpdateGated(HIDDEN, norm=jn.LayerNorm())
    params = cases.random_cell_params(cell, rng)  # random in every slot: zero biases hide missing terms
    xs = cases.random_inputs(rng)
    outputs = jn.unroll(cell, params, xs).outputs
    np.testing.assert_allclose(outputs, oracle(params, xs, 1e-5), rtol=2e-5, atol=2e-6)


def test_initial_bias_of_the_gate():
    bias = UpdateGated(HIDDEN, update_bias=-1.0).init(jax.random.key(0), 3).bias
    np.testing.assert_array_equal(bias, [-1.0] * HIDDEN + [0.0] * HIDDEN)


def test_groups_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"UpdateGated: gate_groups must be .* add up to 2"):
        UpdateGated(HIDDEN, gate_groups=(3,))
